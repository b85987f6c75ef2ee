import { describe, expect, it } from 'vitest';
import { parseConfig, parseEndpoint, parseRing } from '../../../src/bridge/config.js';

const TCP_ONLY = { usb: { enabled: false }, tcp: { listen: ['30431'] } };

describe('configuration', () => {
  it('says nothing, and means USB with iiod-like permissions and TCP off', () => {
    const config = parseConfig({}, 'nothing');
    expect(config.usb).toMatchObject({ enabled: true, name: 'iio-bridge', pipes: 3 });
    expect(config.tcp.listen).toEqual([]);
    expect(config.permissions.usb).toEqual({ readOnly: false, debugAttributes: true, registers: true });
    expect(config.permissions.tcp).toEqual({ readOnly: false, debugAttributes: false, registers: false });
    expect(config.protocol.generation).toBe('auto');
    expect(config.limits).toMatchObject({ blocks: 256, links: 32, attributeBytes: 65536 });
  });

  it.each([
    ['30431', { host: '127.0.0.1', port: 30431 }],
    ['0', { host: '127.0.0.1', port: 0 }],
    ['localhost:30431', { host: 'localhost', port: 30431 }],
    ['192.168.2.1:1', { host: '192.168.2.1', port: 1 }],
    ['[::1]:30431', { host: '::1', port: 30431 }],
    ['[::]:30431', { host: '::', port: 30431 }],
  ])('listens on %s', (text, endpoint) => {
    expect(parseEndpoint(text)).toEqual(endpoint);
  });

  it.each([
    ['500ms', { ms: 500 }],
    ['1.5s', { ms: 1500 }],
    ['64MiB', { bytes: 64 * 1024 * 1024 }],
    ['4096B', { bytes: 4096 }],
    ['0ms', undefined],
    ['500', undefined],
    ['-1MiB', undefined],
    ['64MB', undefined],
  ])('a ring of %s', (text, size) => {
    expect(parseRing(text)).toEqual(size);
  });

  it.each(['', 'localhost', '::1', '::1:30431', '70000', ':30431', 'a:b', '[::1]', '1.2.3.4:99999'])(
    'does not listen on %j',
    (text) => {
      expect(parseEndpoint(text)).toBeUndefined();
    },
  );

  it.each([
    ['a limit that is none', { ...TCP_ONLY, limits: { blocks: 0 } }, 'limits.blocks'],
    ['a word for a number', { ...TCP_ONLY, limits: { totalBytes: 'much' } }, 'limits.totalBytes'],
    ['what it does not know', { ...TCP_ONLY, limits: { block: 1 } }, '"block"'],
    ['an endpoint that is none', { usb: { enabled: false }, tcp: { listen: ['here'] } }, 'tcp.listen[0]'],
    ['a ring of nothing', { ...TCP_ONLY, stream: { ring: {} } }, 'stream.ring'],
    ['a priority that is none', { ...TCP_ONLY, dataplane: { realtimePriority: 100 } }, 'dataplane.realtimePriority'],
    ['a pattern without a device', { ...TCP_ONLY, permissions: { tcp: { writable: ['scale'] } } }, 'permissions.tcp'],
    ['a generation that was never', { ...TCP_ONLY, protocol: { generation: 'B' } }, 'protocol.generation'],
    ['a loopback from nowhere', { ...TCP_ONLY, emulate: { context: 'x', loopback: { to: 'a' } } }, 'loopback.from'],
    ['neither USB nor TCP', { usb: { enabled: false } }, '--tcp'],
  ])('refuses %s, and says where it is written', (_, given, place) => {
    expect(() => parseConfig(given, 'bridge.json')).toThrow(
      expect.objectContaining({ code: 'BAD_CONFIG', message: expect.stringContaining(place) }),
    );
    expect(() => parseConfig(given, 'bridge.json')).toThrow(/^bridge\.json:/);
  });
});
