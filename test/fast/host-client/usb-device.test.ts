import { type ContextDescription, IioError, parseScanFormat } from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import { Context } from '../../../host-client/src/core/context.js';
import { UsbTransport } from '../../../host-client/src/usb/usb-transport.js';
import { CONTEXT, FakeServer } from './fake-server.js';
import { FakeUsbDevice, type Fault, fakeUsb, serveUsb } from './fake-usb.js';

/** Few attributes, so that a conversation has few steps. */
const SMALL: ContextDescription = {
  ...CONTEXT,
  devices: [
    {
      ...CONTEXT.devices[0],
      id: 'a',
      channels: [],
      buffers: [],
      attributes: [],
      debugAttributes: [],
      eventAttributes: [],
    },
    {
      id: 'b',
      name: 'adc',
      channels: [
        {
          id: 'voltage0',
          direction: 'in',
          scanElement: { index: 0, format: parseScanFormat('le:S64/64>>0') },
          attributes: [],
          eventAttributes: [],
        },
      ],
      buffers: [{ index: 0, direction: 'in', attributes: [], channels: [0] }],
      attributes: [{ name: 'Zero' }],
      debugAttributes: [],
      eventAttributes: [],
    },
  ],
};

interface Outcome {
  readonly code: string;
  readonly steps: number;
}

/** Everything once, with a fault at a step: a transfer or a control request. */
async function converse(seed: number, fault?: { readonly step: number; readonly kind: Fault }): Promise<Outcome> {
  const server = new FakeServer({ context: SMALL, seed, pipes: 100 });
  const device = new FakeUsbDevice();
  const steps = serveUsb(device, server.transport, fault);
  const outcome = (code: string): Outcome => ({ code, steps: steps.count });
  let context: Context | undefined;
  try {
    context = await Context.connect(await UsbTransport.open('usb:', fakeUsb(device)), { timeoutMs: 200 });
    const adc = context.device('adc');
    await adc.attribute('Zero').write('1');
    await adc.attribute('Zero').read();
    const stream = await adc.createRxStream({ samplesPerBlock: 200, blocks: 2, timeoutMs: 200 });
    let next = 0n;
    for (let count = 0; count < 4; count++) {
      const { value: block } = await stream.next();
      for (const set of new BigUint64Array(block?.bytes.slice().buffer ?? new ArrayBuffer())) {
        expect(set).toBe(next++);
      }
      block?.release();
    }
    await stream.close();
    return outcome('done');
  } catch (error) {
    return outcome(error instanceof IioError ? error.code : `${String(error)}`);
  } finally {
    await context?.close();
    expect([device.opened, device.claimed]).toEqual([0, false]);
  }
}

describe('a USB device', () => {
  it.each([
    ['disconnect', ['DISCONNECTED']],
    ['stall', ['EPIPE']],
    ['overflow', ['EOVERFLOW', 'EPIPE']],
    ['error', ['EIO']],
    ['short', ['TRUNCATED', 'EIO', 'EPROTO', 'BAD_XML', 'ETIMEDOUT']],
  ] as const)(
    '%s at every step: one typed error, and everything is given back',
    async (kind, codes) => {
      const { code, steps } = await converse(1);
      expect(code).toBe('done');
      expect(steps).toBeGreaterThan(25);
      const seen = new Set<string>();
      for (let step = 0; step < steps; step++) {
        seen.add((await converse(1, { step, kind })).code);
      }
      // Faults of the closing are dealt with in silence.
      seen.delete('done');
      expect([...seen].filter((code) => !(codes as readonly string[]).includes(code))).toEqual([]);
      expect(seen.size).toBeGreaterThan(0);
    },
    60_000,
  );
});
