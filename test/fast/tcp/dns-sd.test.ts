import { describe, expect, it, vi } from 'vitest';
import { DnsSdAnnouncer } from '../../../src/bridge/dns-sd.js';
import type { Logger } from '../../../src/bridge/logger.js';

const responder = vi.hoisted(() => ({ createService: vi.fn(), shutdown: vi.fn(async () => undefined) }));
vi.mock('@homebridge/ciao', () => ({ getResponder: () => responder }));

function announcer(advertise: () => Promise<void>) {
  const lines: string[] = [];
  const note = (_: object, message: string) => void lines.push(message);
  const log: Logger = { debug: note, info: note, warn: note, error: note, child: () => log };
  responder.createService.mockReset().mockReturnValue({ advertise, getFQDN: () => 'iiod on here._iio._tcp.local.' });
  responder.shutdown.mockClear();
  return { announcer: new DnsSdAnnouncer(log), lines };
}

const RECORD = { name: 'iiod on here', type: 'iio', port: 30431 };

describe('DNS-SD', () => {
  it.each([
    ['::', { disabledIpv6: false }],
    ['0.0.0.0', { disabledIpv6: true }],
    ['192.168.2.1', { restrictedAddresses: ['192.168.2.1'] }],
  ])('announces a service on %s with the addresses that answer', async (address, expected) => {
    const { announcer: dnsSd, lines } = announcer(async () => undefined);
    const announcement = dnsSd.announce({ ...RECORD, address });
    expect(responder.createService).toHaveBeenCalledExactlyOnceWith({ ...RECORD, ...expected });
    await announcement.withdraw();
    expect(lines).toEqual(['announced']);
    expect(responder.shutdown).toHaveBeenCalledOnce();
  });

  it('goes on without the network, with a line in the log', async () => {
    const { announcer: dnsSd, lines } = announcer(() => Promise.reject(new Error('no interface')));
    await dnsSd.announce({ ...RECORD, address: '::' }).withdraw();
    expect(lines).toEqual([expect.stringContaining('cannot be announced')]);
  });
});
