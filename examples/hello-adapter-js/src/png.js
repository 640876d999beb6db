// A PNG writer without compression: three chunks, and a zlib stream of stored blocks.

/** Writes a picture; `pixel` gives red, green and blue of each place. */
export function encode([width, height], pixel) {
  const row = 1 + 3 * width;
  const raw = new Uint8Array(row * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) raw.set(pixel(x, y), y * row + 1 + 3 * x);
  }
  // Eight bits a channel, colour type 2: red, green, blue.
  const header = joined([bigEndian(width), bigEndian(height), Uint8Array.of(8, 2, 0, 0, 0)]);
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  return joined([signature, chunk('IHDR', header), chunk('IDAT', stored(raw)), chunk('IEND', new Uint8Array())]);
}

function chunk(name, data) {
  const body = joined([new TextEncoder().encode(name), data]);
  return joined([bigEndian(data.length), body, bigEndian(crc32(body))]);
}

/** A zlib stream whose blocks are not compressed. */
function stored(raw) {
  const most = 0xffff;
  const parts = [Uint8Array.of(0x78, 0x01)];
  for (let at = 0; at < raw.length; at += most) {
    const block = raw.subarray(at, at + most);
    const isLast = at + most >= raw.length ? 1 : 0;
    parts.push(Uint8Array.of(isLast, block.length, block.length >> 8, ~block.length, ~block.length >> 8), block);
  }
  return joined([...parts, bigEndian(adler32(raw))]);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function bigEndian(number) {
  return Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number);
}

function adler32(bytes) {
  let [a, b] = [1, 0];
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return ((b << 16) | a) >>> 0;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let rest = index;
  for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  return rest;
});

function crc32(bytes) {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = (rest >>> 8) ^ TABLE[(rest ^ byte) & 0xff];
  return (rest ^ 0xffffffff) >>> 0;
}
