import type { DeviceDescription } from '@iio-bridge/protocol';
import { decompress } from 'fzstd';
import { describe, expect, it } from 'vitest';
import type { ContextSource } from '../../../src/bridge/context-server.js';
import {
  ADC,
  createBlock,
  DESCRIPTION,
  FakeBackend,
  openBuffer,
  ramp,
  TestBridge,
  type TestLink,
  transfer,
} from './binary-harness.js';

const BLOCK = 32;

async function printed(link: TestLink): Promise<string> {
  const { code } = await link.ask('PRINT');
  return new TextDecoder().decode(decompress(await link.receive(code)));
}

/** Devices that come in front of those there are, so that all are numbered anew. */
function comingDevice(id: string): DeviceDescription {
  return {
    id,
    name: 'new',
    channels: [],
    buffers: [],
    attributes: [{ name: 'mark' }],
    debugAttributes: [],
    eventAttributes: [],
  };
}

class Bench {
  plugged = false;
  broken = false;
  discoveries = 0;
  readonly bridge: TestBridge;

  constructor() {
    this.bridge = new TestBridge({ source: (backend) => this.#source(backend) });
  }

  #source(backend: FakeBackend): ContextSource {
    return {
      fingerprint: () => `${this.plugged}`,
      discover: () => {
        this.discoveries++;
        if (this.broken) {
          throw new Error('nothing there');
        }
        if (!this.plugged) {
          return backend;
        }
        const devices = [comingDevice('hwmon0'), ...DESCRIPTION.devices];
        return new FakeBackend((fd) => this.bridge.plane.openSampleIo(fd), { ...DESCRIPTION, devices });
      },
    };
  }
}

describe('when a device comes', () => {
  it('new clients get the new context, and streams go on', async () => {
    const bench = new Bench();
    const { bridge } = bench;
    const [main, link] = [await bridge.connect('first'), await bridge.connect('first')];
    expect(await printed(main)).not.toContain('hwmon0');
    await openBuffer(link, ADC);
    await createBlock(link, ADC, 0, BLOCK);
    expect((await link.ask('ENABLE_BUFFER', { dev: ADC })).code).toBe(0);
    const { converter } = bridge;

    bench.plugged = true;
    const other = await bridge.connect('second');
    expect(await printed(other)).toContain('hwmon0');
    expect((await other.ask('READ_ATTR', { dev: 0 })).code).toBe('device mark\0'.length);

    transfer(link, ADC, 0, BLOCK);
    await converter.capture(ramp(BLOCK));
    expect(await link.response()).toEqual({ clientId: 1, op: 0, dev: 0, code: BLOCK });
    expect([...(await link.receive(BLOCK))]).toEqual([...ramp(BLOCK)]);
    expect((await main.ask('READ_ATTR', { dev: ADC })).code).toBe('device sampling_frequency\0'.length);
  });

  it('a client numbers devices on all its links as on the one where it got the context', async () => {
    const bench = new Bench();
    const main = await bench.bridge.connect('first');
    await printed(main);
    bench.plugged = true;
    const other = await bench.bridge.connect('second');
    await printed(other);
    await openBuffer(await bench.bridge.connect('first'), ADC);
    const busy = await bench.bridge.connect('second');
    // The same converter, one further now.
    expect((await busy.ask('OPEN_BUFFER', { dev: ADC + 1 }, Uint8Array.of(3, 0, 0, 0))).code).toBe(-17);
    expect((await other.ask('CLOSE_BUFFER', { dev: ADC + 1 })).code).toBe(0);
  });

  it('a program that starts anew at the same address gets the new context', async () => {
    const bench = new Bench();
    const first = await bench.bridge.connect('host');
    await printed(first);
    first.close();
    await first.ended;
    bench.plugged = true;
    expect(await printed(await bench.bridge.connect('host'))).toContain('hwmon0');
  });

  it('devices are listed once for each change', async () => {
    const bench = new Bench();
    for (let turn = 0; turn < 3; turn++) {
      await printed(await bench.bridge.connect());
    }
    expect(bench.discoveries).toBe(1);
    bench.plugged = true;
    for (let turn = 0; turn < 3; turn++) {
      await printed(await bench.bridge.connect());
    }
    expect(bench.discoveries).toBe(2);
  });

  it('the context stays as it is if the new one cannot be made', async () => {
    const bench = new Bench();
    bench.plugged = true;
    bench.broken = true;
    expect(await printed(await bench.bridge.connect())).not.toContain('hwmon0');
  });
});
