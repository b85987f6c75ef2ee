import { IioError } from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Context, WebUsbTransport } from '../../../host-client/src/browser.js';
import type { RxStream } from '../../../host-client/src/core/rx-stream.js';
import { FakeServer, type FakeServerOptions } from './fake-server.js';
import { FakeTextServer } from './fake-text-server.js';
import { FakeWebUsbDevice } from './fake-webusb.js';

async function connect(options: FakeServerOptions = {}) {
  const server = new FakeServer({ pipes: 100, ...options });
  const device = new FakeWebUsbDevice(
    server.transport,
    options.packetSize === undefined ? {} : { packetSize: options.packetSize },
  );
  const context = await Context.open(device, { timeoutMs: 5000 });
  onTestFinished(() => context.close());
  return { server, device, context, adc: context.device('adc') };
}

async function take(stream: RxStream, blocks: number): Promise<void> {
  let expected = 0n;
  for (let count = 0; count < blocks; count++) {
    const { value: block } = await stream.next();
    for (const set of new BigUint64Array(block?.bytes.slice().buffer ?? new ArrayBuffer())) {
      expect(set).toBe(expected++);
    }
    block?.release();
  }
}

describe('a context through WebUSB', () => {
  it('is described by the device, and answers', async () => {
    const { context, adc, device } = await connect();
    expect(context.uri).toBe('usb:serial=007');
    expect(context.attributes.get('usb,idVendor')).toBe('0456');
    expect(await adc.attribute('Zero').read()).toBe('ATTR 1 0 0');
    await adc.attribute('Zero').write('5');
    expect(await adc.attribute('Zero').read()).toBe('5');
    expect(device.requests).toEqual([
      [0, 0],
      [1, 0],
    ]);
    await context.close();
    expect(device.opened).toBe(false);
  });

  it.each([64, 512, 1024])('streams every sample once (packets of %i)', async (packetSize) => {
    for (let seed = 1; seed <= 4; seed++) {
      const { adc } = await connect({ packetSize, seed });
      const stream = await adc.createRxStream({ samplesPerBlock: 100 * seed, blocks: 4 });
      await take(stream, 12);
      await stream.close();
    }
  });

  it('closes a stream whose reads cannot be taken back, and opens the next one on the same pipe', async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const { adc, device } = await connect({ seed, packetSize: 64 });
      for (let round = 0; round < 3; round++) {
        const stream = await adc.createRxStream({ samplesPerBlock: 64 + round, blocks: 4 });
        await take(stream, 5);
        await stream.close();
        expect(device.orphans).toBeLessThanOrEqual(1);
        expect(await adc.attribute('Zero').read()).toBe('ATTR 1 0 0');
      }
    }
  });

  it('closes a stream without samples, too', async () => {
    const { adc, server } = await connect({ noSamples: true });
    const stream = await adc.createRxStream({ samplesPerBlock: 64 });
    await stream.close();
    expect(server.transport.links.filter((link) => !link.isClosed)).toHaveLength(1);
  });

  it('speaks text as well', async () => {
    const server = new FakeTextServer({ pipes: 100 });
    const context = await Context.open(new FakeWebUsbDevice(server.transport), { timeoutMs: 5000 });
    onTestFinished(() => context.close());
    expect(await context.device('adc').attribute('Zero').read()).toBe('Zero');
    const stream = await context.device('adc').createRxStream({ samplesPerBlock: 100 });
    expect((await stream.next()).value?.samples).toBe(100);
    await stream.close();
  });

  it('ends with DISCONNECTED when the device leaves', async () => {
    const { adc, device, context } = await connect({ intercept: ({ operation }) => operation === 'READ_ATTR' });
    const stream = await adc.createRxStream({ samplesPerBlock: 64 });
    const reading = adc.attribute('Zero').read();
    const streaming = (async () => {
      for await (const block of stream) {
        block.release();
      }
    })();
    setImmediate(() => device.disconnect());
    await Promise.all([
      expect(reading).rejects.toMatchObject({ code: 'DISCONNECTED' }),
      expect(streaming).rejects.toMatchObject({ code: 'DISCONNECTED' }),
    ]);
    await context.close();
  });

  it('needs an interface named IIO that nobody else has', async () => {
    const server = new FakeServer();
    const other = new FakeWebUsbDevice(server.transport, { interfaceName: 'CDC' });
    await expect(WebUsbTransport.open(other)).rejects.toMatchObject({ code: 'NO_CONTEXT' });
    expect(other.opened).toBe(false);
    const taken = new FakeWebUsbDevice(server.transport);
    taken.claimError = new Error('busy');
    await expect(WebUsbTransport.open(taken)).rejects.toSatisfy(
      (error) => error instanceof IioError && error.code === 'EBUSY',
    );
  });

  it('runs out of pipes with a message', async () => {
    const { adc } = await connect({ noSamples: true });
    await adc.createRxStream({ samplesPerBlock: 1 });
    await adc.createRxStream({ samplesPerBlock: 1 });
    await expect(adc.createRxStream({ samplesPerBlock: 1 })).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('all 3 pipes are in use'),
    });
  });
});
