//! Writes RGB pictures as PNG, uncompressed: the shortest writer that every reader takes.

use easel_sdk::Size;

/// The most bytes of one stored deflate block.
const MAX_BLOCK: usize = 0xffff;

/// A PNG of `size` with the colours of `pixel(x, y)`.
pub fn encode(size: Size, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    let mut rows = Vec::with_capacity(size.height as usize * (1 + 3 * size.width as usize));
    for y in 0..size.height {
        // The row's filter: none.
        rows.push(0);
        for x in 0..size.width {
            rows.extend(pixel(x, y));
        }
    }
    let mut header = Vec::new();
    header.extend(size.width.to_be_bytes());
    header.extend(size.height.to_be_bytes());
    // 8 bits a channel, RGB, deflate, adaptive filters, not interlaced.
    header.extend([8, 2, 0, 0, 0]);

    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, *b"IHDR", &header);
    chunk(&mut file, *b"IDAT", &stored(&rows));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, name: [u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("pictures of at most a mega-pixel");
    file.extend(length.to_be_bytes());
    let start = file.len();
    file.extend(name);
    file.extend(data);
    let check = crc32(&file[start..]);
    file.extend(check.to_be_bytes());
}

/// A zlib stream of stored blocks.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let last = data.chunks(MAX_BLOCK).count() - 1;
    for (index, block) in data.chunks(MAX_BLOCK).enumerate() {
        let length = u16::try_from(block.len()).expect("blocks of at most 65535 bytes");
        stream.push(u8::from(index == last));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(adler32(data).to_be_bytes());
    stream
}

fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut value = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc: u32, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_standard_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn large_pictures_are_written_in_several_blocks() {
        let data = vec![7; MAX_BLOCK + 1];
        let stream = stored(&data);
        assert_eq!(stream[2..7], [0, 0xff, 0xff, 0, 0]);
        assert_eq!(stream[7 + MAX_BLOCK..][..6], [1, 1, 0, 0xfe, 0xff, 7]);
        assert_eq!(stream.len(), 2 + 5 + MAX_BLOCK + 5 + 1 + 4);
    }
}
