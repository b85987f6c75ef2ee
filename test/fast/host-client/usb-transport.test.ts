import { IioError } from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import type { Link } from '../../../host-client/src/core/link.js';
import { readOnce } from '../../../host-client/src/core/read-once.js';
import { parseScanOptions, scan } from '../../../host-client/src/scan.js';
import { findUsbContexts, parseUsbUri } from '../../../host-client/src/usb/usb-discovery.js';
import { UsbTransport } from '../../../host-client/src/usb/usb-transport.js';
import { type FakeEndpoint, FakeUsbDevice, fakeUsb, usbError } from './fake-usb.js';

function code(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: unknown) => (error instanceof IioError ? error.code : String(error)),
  );
}

async function openLink(device: FakeUsbDevice) {
  const transport = await UsbTransport.open('usb:', fakeUsb(device));
  const link: Link = await transport.openLink('main');
  const [input, output] = device.endpoints;
  if (input === undefined || output === undefined) {
    throw new Error('no endpoints');
  }
  return { transport, link, input, output };
}

function finish(endpoint: FakeEndpoint, errno: number | undefined, length: number): void {
  endpoint.pending[0]?.finish(errno, length);
}

describe('a usb: URI', () => {
  it('is parsed', () => {
    expect(parseUsbUri('usb:')).toEqual({ kind: 'any' });
    expect(parseUsbUri('usb:3.17')).toEqual({ kind: 'address', bus: 3, address: 17 });
    expect(parseUsbUri('usb:3.17.5')).toEqual({ kind: 'address', bus: 3, address: 17, interfaceIndex: 5 });
    expect(parseUsbUri('usb:serial=10:4 4')).toEqual({ kind: 'serial', serial: '10:4 4' });
  });

  it.each(['usb', 'usb:x', 'usb:1', 'usb:1.2.3.4', 'usb:1.256', 'usb:1.2 ', 'usb:serial=', 'usb:-1.2', 'ip:host'])(
    "'%s' is refused",
    (uri) => {
      expect(() => parseUsbUri(uri)).toThrow(expect.objectContaining({ code: 'BAD_URI' }));
    },
  );
});

describe('finding contexts', () => {
  it('goes by the interface string and opens nothing that cannot be one', async () => {
    const iio = new FakeUsbDevice();
    const other = new FakeUsbDevice({ address: 5, interfaceString: 'CDC' });
    const { contexts } = await findUsbContexts(fakeUsb(iio, other), { kind: 'any' });
    expect(contexts.map(({ uri, description }) => ({ uri, description }))).toEqual([
      { uri: 'usb:1.4.1', description: '0456:b673 (Acme Board), serial=007' },
    ]);
    expect([iio.opened, other.opened]).toEqual([0, 0]);
  });

  it('needs a choice among several, and takes an address or a serial number', async () => {
    const usb = fakeUsb(new FakeUsbDevice({ serial: 'A' }), new FakeUsbDevice({ address: 5, serial: 'B' }));
    await expect(UsbTransport.open('usb:', usb)).rejects.toMatchObject({
      code: 'SEVERAL_CONTEXTS',
      message: expect.stringMatching(/usb:1\.4\.1 .*serial=A\n.*usb:1\.5\.1 .*serial=B/),
    });
    expect((await UsbTransport.open('usb:1.5', usb)).uri).toBe('usb:1.5.1');
    expect((await UsbTransport.open('usb:serial=A', usb)).uri).toBe('usb:1.4.1');
    expect(await code(UsbTransport.open('usb:1.4.0', usb))).toBe('NO_CONTEXT');
    expect(await code(UsbTransport.open('usb:serial=C', usb))).toBe('NO_CONTEXT');
  });

  it('says what to do about missing permission', async () => {
    const device = new FakeUsbDevice({ openError: usbError(-3) });
    await expect(UsbTransport.open('usb:', fakeUsb(device))).rejects.toMatchObject({
      code: 'EACCES',
      message: expect.stringContaining('SUBSYSTEM=="usb", ATTR{idVendor}=="0456", ATTR{idProduct}=="b673"'),
    });
  });

  it('tells a machine without USB from one without a device', async () => {
    await expect(UsbTransport.open('usb:', fakeUsb())).rejects.toMatchObject({ code: 'NO_CONTEXT' });
    const none = { INIT_ERROR: -99, getDeviceList: () => [] };
    await expect(UsbTransport.open('usb:', none)).rejects.toMatchObject({
      code: 'NO_CONTEXT',
      message: expect.stringContaining('not available'),
    });
  });

  it('leaves a device alone that a context of this program has open', async () => {
    const device = new FakeUsbDevice();
    const usb = fakeUsb(device);
    const transport = await UsbTransport.open('usb:', usb);
    expect((await findUsbContexts(usb, { kind: 'any' })).contexts).toHaveLength(1);
    expect(await code(UsbTransport.open('usb:', usb))).toBe('EBUSY');
    expect([device.opened, device.claimed]).toEqual([1, true]);
    await transport.close();
    expect([device.opened, device.claimed]).toEqual([0, false]);
  });

  it('looks only at what the filter lets through', async () => {
    const device = new FakeUsbDevice({ openError: usbError(-3) });
    const filtered = await scan({ usb: { vendorId: 0x1234 }, ip: false }, fakeUsb(device));
    expect(filtered).toEqual([]);
    expect((await findUsbContexts(fakeUsb(device), { kind: 'any' }, { vendorId: 0x1234 })).unreadable).toEqual([]);
    const [found] = await scan(
      { usb: { vendorId: 0x0456, productId: 0xb673 }, ip: false },
      fakeUsb(new FakeUsbDevice()),
    );
    expect(found).toMatchObject({ kind: 'usb', uri: 'usb:1.4.1', serial: '007' });
  });

  it('takes the places to look at from the words of iio_info -S', () => {
    expect(parseScanOptions('')).toEqual({});
    expect(parseScanOptions('usb=0x0456:b673,ip')).toEqual({ usb: { vendorId: 0x0456, productId: 0xb673 }, ip: true });
    expect(parseScanOptions('usb=456:*')).toEqual({ usb: { vendorId: 0x0456 }, ip: false });
    expect(() => parseScanOptions('serial')).toThrow(expect.objectContaining({ code: 'BAD_URI' }));
  });

  it('reports an interface that another program uses, and closes the device', async () => {
    const device = new FakeUsbDevice({ claimError: usbError(-6) });
    expect(await code(UsbTransport.open('usb:', fakeUsb(device)))).toBe('EBUSY');
    expect(device.opened).toBe(0);
  });
});

describe('pipes', () => {
  it('are reset, opened and closed by vendor requests to the interface', async () => {
    const device = new FakeUsbDevice();
    const { transport, link } = await openLink(device);
    const buffer = await transport.openLink('buffer');
    await buffer.close();
    await link.close();
    await transport.close();
    expect(device.requests).toEqual([
      [0, 0, 1],
      [1, 0, 1],
      [1, 1, 1],
      [2, 1, 1],
      [2, 0, 1],
      [0, 0, 1],
    ]);
    expect([device.opened, device.claimed]).toEqual([0, false]);
  });

  it('run out with a message, and are free again after a close', async () => {
    const { transport } = await openLink(new FakeUsbDevice());
    const first = await transport.openLink('buffer');
    await transport.openLink('buffer');
    await expect(transport.openLink('buffer')).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('all 3 pipes are in use'),
    });
    await first.close();
    expect((await transport.openLink('buffer')).name).toBe('pipe 1 of usb:1.4.1');
    await transport.close();
  });

  it('that the device refuses are not taken', async () => {
    const device = new FakeUsbDevice();
    const { transport } = await openLink(device);
    device.controlError = usbError(4);
    expect(await code(transport.openLink('buffer'))).toBe('EPIPE');
    device.controlError = usbError(2);
    expect(await code(transport.openLink('buffer'))).toBe('ETIMEDOUT');
    device.controlError = usbError(5);
    expect(await code(transport.openLink('buffer'))).toBe('DISCONNECTED');
    device.controlError = undefined;
    expect((await transport.openLink('buffer')).name).toBe('pipe 1 of usb:1.4.1');
  });
});

describe('transfers', () => {
  it('go in parallel, straight into the caller’s memory, and their objects are reused', async () => {
    const { link, input } = await openLink(new FakeUsbDevice());
    const memory = new Uint8Array(2048);
    const reads = [readOnce(link, memory.subarray(0, 512)), readOnce(link, memory.subarray(512))];
    expect(input.pending).toHaveLength(2);
    input.pending[0]?.buffer?.set([1, 2, 3]);
    finish(input, undefined, 3);
    input.pending[0]?.buffer?.fill(9);
    finish(input, undefined, 1536);
    expect(await Promise.all(reads.map(({ done }) => done))).toEqual([
      { length: 3, cancelled: false },
      { length: 1536, cancelled: false },
    ]);
    expect([memory[2], memory[512], memory[2047]]).toEqual([3, 9, 9]);
    readOnce(link, memory);
    expect(input.made).toBe(2);
  });

  it('that are cancelled keep what they had', async () => {
    const { link, input } = await openLink(new FakeUsbDevice());
    const read = readOnce(link, new Uint8Array(1024));
    finish(input, 3, 512);
    expect(await read.done).toEqual({ length: 512, cancelled: true });
    read.cancel();
  });

  it.each([
    [5, undefined, 'DISCONNECTED'],
    [4, undefined, 'EPIPE'],
    [6, undefined, 'EOVERFLOW'],
    [1, undefined, 'EIO'],
    [1, usbError(-4), 'DISCONNECTED'],
  ])('that end with status %i are told apart (control: %s): %s', async (status, controlError, expected) => {
    const device = new FakeUsbDevice();
    const { link, input } = await openLink(device);
    const read = readOnce(link, new Uint8Array(512));
    device.controlError = controlError;
    finish(input, status, 0);
    expect(await code(read.done)).toBe(expected);
  });

  it('that cannot be submitted throw, and the endpoint works on afterwards', async () => {
    const { link, input } = await openLink(new FakeUsbDevice());
    input.submitError = usbError(-11);
    expect(await code(readOnce(link, new Uint8Array(512)).done)).toBe('ENOMEM');
    input.submitError = undefined;
    const read = readOnce(link, new Uint8Array(512));
    finish(input, undefined, 8);
    expect(await read.done).toEqual({ length: 8, cancelled: false });
  });

  it('to the device are queued as given, and wait for memory that reads hold', async () => {
    const { link, input, output } = await openLink(new FakeUsbDevice());
    readOnce(link, new Uint8Array(512));
    output.submitError = usbError(-11);
    const written = link.write(Uint8Array.of(1), Uint8Array.of(2, 3));
    expect(output.pending).toHaveLength(0);
    output.submitError = undefined;
    finish(input, undefined, 8);
    expect(output.pending.map(({ buffer }) => buffer?.length)).toEqual([1, 2]);
    finish(output, undefined, 1);
    finish(output, undefined, 2);
    expect(await written).toBeUndefined();
  });

  it('to the device that fail or fall short are reported', async () => {
    const { link, output } = await openLink(new FakeUsbDevice());
    const stalled = link.write(Uint8Array.of(1));
    finish(output, 4, 0);
    expect(await code(stalled)).toBe('EPIPE');
    const short = link.write(Uint8Array.of(1, 2));
    finish(output, undefined, 1);
    expect(await code(short)).toBe('EIO');
  });

  it('are all taken back before the pipe and the device are closed', async () => {
    const device = new FakeUsbDevice();
    const { transport, link } = await openLink(device);
    const reads = [readOnce(link, new Uint8Array(512)), readOnce(link, new Uint8Array(512))];
    const write = code(link.write(Uint8Array.of(1)));
    await transport.close();
    expect(await Promise.all(reads.map(({ done }) => done))).toEqual(Array(2).fill({ length: 0, cancelled: true }));
    expect(await write).toBe('ECANCELED');
    expect(device.opened).toBe(0);
    expect(await code(readOnce(link, new Uint8Array(512)).done)).toBe('ECANCELED');
  });
});
