/** What the emulated converters show, by the rules that they promise: channel values from the number of the sample set. */

/** `emu-mixed`, the samples of one channel as they are stored; not the time stamp, which is not known beforehand. */
export const MIXED_SAMPLE: readonly ((set: number) => Buffer)[] = [
  (set) => {
    const bytes = Buffer.alloc(2);
    bytes.writeInt16LE((set << 16) >> 16);
    return bytes;
  },
  (set) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE((set << 8) | 0);
    return bytes;
  },
  (set) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(set | 0);
    return bytes;
  },
  (set) => {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16BE((set & 0xfff) << 4);
    return bytes;
  },
];

/** Sample sets of `emu-mixed` with some of its channels, without padding. */
export function mixedSamples(channels: readonly number[], first: number, sets: number): Buffer {
  const pieces: Buffer[] = [];
  for (let set = first; set < first + sets; set++) {
    for (const channel of channels) {
      pieces.push(MIXED_SAMPLE[channel]?.(set) ?? Buffer.alloc(0));
    }
  }
  return Buffer.concat(pieces);
}

/** `emu-wide`: 64 bits of the number, 16 to a channel, over and over. */
export function wideSamples(channels: readonly number[], first: number, sets: number): Buffer {
  const values = Array.from({ length: sets }, (_, n) => {
    const set = BigInt(first + n);
    return channels.map((channel) => Number((set >> BigInt(16 * (channel % 4))) & 0xffffn));
  });
  return Buffer.from(Uint16Array.from(values.flat()).buffer);
}
