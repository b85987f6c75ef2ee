import { writeSync } from 'node:fs';
import { ERRNO } from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import { MONITOR, ramp, TestBridge, type TestLink } from './binary-harness.js';

const ok = (code: number, clientId = 0) => ({ clientId, op: 0, dev: 0, code });
const STREAM = { id: 0xffff, dev: MONITOR };

async function create(link: TestLink, id = STREAM.id): Promise<void> {
  expect(await link.ask('CREATE_EVSTREAM', { id, dev: MONITOR })).toEqual(ok(0, id));
}

function happen(bridge: TestBridge, from: number, stream = 0): void {
  const end = bridge.backend.eventEnds[stream];
  if (end === undefined) {
    throw new Error(`there is no event stream ${stream}`);
  }
  writeSync(end.fd, ramp(16, from));
}

describe('an event stream', () => {
  it('delivers each event to the read that waits for it, while other requests are served', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await create(link);
    for (const from of [10, 30, 50]) {
      link.request('READ_EVENT', STREAM);
      await link.expectQuiet();
      happen(bridge, from);
      expect(await link.response()).toEqual(ok(16, STREAM.id));
      expect([...(await link.receive(16))]).toEqual([...ramp(16, from)]);
    }
  });

  it('keeps events until they are read', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await create(link);
    happen(bridge, 1);
    happen(bridge, 2);
    for (const from of [1, 2]) {
      expect(await link.ask('READ_EVENT', { ...STREAM, code: 1 })).toEqual(ok(16, STREAM.id));
      expect([...(await link.receive(16))]).toEqual([...ramp(16, from)]);
    }
    expect(await link.ask('READ_EVENT', { ...STREAM, code: 1 })).toEqual(ok(-ERRNO.EAGAIN, STREAM.id));
  });

  it('interrupts the pending read when it is freed', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await create(link);
    link.request('READ_EVENT', STREAM);
    await link.expectQuiet();
    link.request('FREE_EVSTREAM', { dev: MONITOR, code: STREAM.id });
    expect(await link.response()).toEqual(ok(-ERRNO.EINTR, STREAM.id));
    expect(await link.response()).toEqual(ok(0));
    expect(await link.ask('FREE_EVSTREAM', { dev: MONITOR, code: STREAM.id })).toEqual(ok(-ERRNO.EBADF));
    expect(await link.ask('READ_EVENT', STREAM)).toEqual(ok(-ERRNO.EBADF, STREAM.id));
    await create(link);
  });

  it('has one pending read, and one id', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await create(link);
    expect(await link.ask('CREATE_EVSTREAM', STREAM)).toEqual(ok(-ERRNO.EEXIST, STREAM.id));
    link.request('READ_EVENT', STREAM);
    expect(await link.ask('READ_EVENT', STREAM)).toEqual(ok(-ERRNO.EBUSY, STREAM.id));
    happen(bridge, 5);
    expect(await link.response()).toEqual(ok(16, STREAM.id));
  });

  it('is one of many on a link, up to a limit', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    const ids = Array.from({ length: 64 }, (_, i) => 0xffff - i);
    for (const id of ids) {
      await create(link, id);
      link.request('READ_EVENT', { id, dev: MONITOR });
    }
    expect(await link.ask('CREATE_EVSTREAM', { id: 1, dev: MONITOR })).toEqual(ok(-ERRNO.EMFILE, 1));
    happen(bridge, 7, 63);
    expect(await link.response()).toEqual(ok(16, 0xffff - 63));
    expect([...(await link.receive(16))]).toEqual([...ramp(16, 7)]);
  });

  it('ends with its link', async () => {
    const bridge = new TestBridge();
    const link = await bridge.connect();
    await create(link);
    link.request('READ_EVENT', STREAM);
    await link.expectQuiet();
    link.close();
    await link.ended;
    expect(() => happen(bridge, 1)).toThrow('EPIPE');
  });
});
