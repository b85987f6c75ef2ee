import { describe, expect, it } from 'vitest';
import { decodeFfsEvents } from '../../../src/ffs/events.js';

describe('ep0 events', () => {
  it('a vendor request to the interface: OPEN_PIPE 2', () => {
    expect(decodeFfsEvents(Buffer.from('410102000000000004000000', 'hex'))).toEqual([
      { type: 'setup', setup: { requestType: 0x41, request: 1, value: 2, index: 0, length: 0 } },
    ]);
  });

  it('setup fields are little-endian', () => {
    const [event] = decodeFfsEvents(Buffer.from('c1020403060508070400ff00', 'hex'));
    expect(event).toEqual({
      type: 'setup',
      setup: { requestType: 0xc1, request: 2, value: 0x0304, index: 0x0506, length: 0x0708 },
    });
  });

  it('several in one read, in order, from the middle of a larger buffer', () => {
    const types = [0, 2, 5, 6, 3, 1];
    const bytes = new Uint8Array(5 + types.length * 12);
    types.forEach((type, index) => {
      bytes[5 + index * 12 + 8] = type;
    });
    expect(decodeFfsEvents(bytes.subarray(5)).map(({ type }) => type)).toEqual([
      'bind',
      'enable',
      'suspend',
      'resume',
      'disable',
      'unbind',
    ]);
  });

  it('a type that this version does not know is passed on', () => {
    const bytes = new Uint8Array(12);
    bytes[8] = 7;
    expect(decodeFfsEvents(bytes)).toEqual([{ type: 'unknown', code: 7 }]);
  });

  it('half a record is an error', () => {
    expect(() => decodeFfsEvents(new Uint8Array(18))).toThrow(expect.objectContaining({ code: 'EPROTO' }));
    expect(decodeFfsEvents(new Uint8Array(0))).toEqual([]);
  });
});
