import assert from 'node:assert/strict';
import {
  Context,
  type ContextOptions,
  type Device,
  IioError,
  type Protocol,
  type RxBlock,
} from '@iio-bridge/host-client';

/** What a server has for the suite to work with. Plain data, so that it can be handed to a program in a guest. */
export interface Expectations {
  readonly protocol: Protocol;
  /** An input that streams, and does so by itself or by the trigger. */
  readonly input: {
    readonly device: string;
    /** Channels to stream, in the order of their scan indices; at least two. */
    readonly channels: readonly string[];
    readonly trigger?: string;
    /** How fast blocks may be expected to come, in sample sets per block. */
    readonly samplesPerBlock: number;
    readonly blocks: number;
    /** Each sample set is a 64-bit number, one above the set before it. */
    readonly counts?: boolean;
  };
  /** An attribute that takes these values, and gives them back just so. */
  readonly writable: {
    readonly device: string;
    readonly channel?: string;
    readonly name: string;
    readonly values: readonly string[];
  };
  /** An attribute that refuses this value, and the code of the refusal. */
  readonly refusing?: { readonly device: string; readonly name: string; readonly value: string; readonly code: string };
  /** An output, and the input that gives back what it plays. */
  readonly output?: { readonly device: string; readonly loopback?: string };
  readonly registers?: { readonly device: string; readonly register: number };
  /** Event attributes of a channel to write 1 to, after which events come while the input streams. */
  readonly events?: { readonly device: string; readonly channel: string; readonly enable: string };
  /** The server lets several clients stream from one input. */
  readonly shares: boolean;
}

export interface ConformanceCase {
  readonly name: string;
  run(): Promise<void>;
}

/** Guests that share a processor are slow. */
const TIMEOUT_MS = 30_000;

/**
 * What every server must do for this client, whichever protocol it speaks and whatever it is: the same assertions for
 * iio-bridge and for libiio's iiod.
 */
export function conformance(
  uri: string,
  expected: Expectations,
  options: ContextOptions = {},
): readonly ConformanceCase[] {
  const open = () => Context.open(uri, { timeoutMs: TIMEOUT_MS, protocol: expected.protocol, ...options });
  const test = (name: string, run: (context: Context) => Promise<void>): ConformanceCase => ({
    name,
    run: async () => {
      await using context = await open();
      await run(context);
    },
  });
  const { input, output, registers, events, refusing } = expected;
  const { samplesPerBlock } = input;

  const cases: ConformanceCase[] = [
    test('the description tells devices, channels and where it came from', async (context) => {
      assert.equal(context.protocol, expected.protocol);
      assert.equal(context.attributes.get('uri'), context.uri);
      const device = context.device(input.device);
      for (const id of input.channels) {
        assert.ok(device.channel(id, 'in').description.scanElement !== undefined, `${id} is no scan element`);
      }
      assert.equal(context.device(device.id), device);
    }),

    test('an attribute gives back what was written', async (context) => {
      const attribute = writable(context, expected);
      for (const value of expected.writable.values) {
        await attribute.write(value);
        assert.equal((await attribute.read()).trimEnd(), value);
      }
    }),

    test('each of many callers gets its own answer', async (context) => {
      const attributes = context
        .device(input.device)
        .channels.flatMap((channel) => [...channel.attributes.values()])
        .filter(({ name }) => ['scale', 'offset'].includes(name));
      assert.ok(attributes.length > 0);
      const alone: string[] = [];
      for (const attribute of attributes) {
        alone.push(await attribute.read());
      }
      const rounds = Array.from({ length: 50 }, (_, i) => i % attributes.length);
      const together = await Promise.all(rounds.map((i) => attributes[i]?.read()));
      assert.deepEqual(
        together,
        rounds.map((i) => alone[i]),
      );
    }),

    test('a name that is not there is refused here, with what there is', async (context) => {
      assert.throws(() => context.device('no-such-device'), code('NO_DEVICE'));
      assert.throws(() => context.device(input.device).attribute('no_such_attribute'), code('NO_ATTRIBUTE'));
      await assert.rejects(
        context.device(input.device).createRxStream({ channels: ['no-such-channel'], samplesPerBlock: 1 }),
        code('NO_CHANNEL'),
      );
    }),

    test('blocks come full, in order, and come again after a release', async (context) => {
      await ready(context, expected);
      await using stream = await context.device(input.device).createRxStream({ ...input, blocks: 4 });
      let next: bigint | undefined;
      for (let count = 0; count < input.blocks; count++) {
        using block = await take(stream.next());
        assert.equal(block.sequence, count);
        assert.equal(block.samples, samplesPerBlock);
        assert.equal(block.bytes.length, samplesPerBlock * stream.layout.bytes);
        next = input.counts === true ? checkCounter(block, next) : undefined;
      }
      assert.equal(stream.statistics.blocks >= input.blocks, true);
    }),

    test('any one channel streams alone', async (context) => {
      await ready(context, expected);
      for (const channel of input.channels) {
        await using stream = await context
          .device(input.device)
          .createRxStream({ channels: [channel], samplesPerBlock });
        using block = await take(stream.next());
        assert.equal(block.channel(channel).length, samplesPerBlock);
      }
    }),

    test('a stream that is left is closed, and the next one opens at once', async (context) => {
      await ready(context, expected);
      for (let round = 0; round < 3; round++) {
        for await (const block of await context.device(input.device).createRxStream({ ...input, blocks: 3 })) {
          block.release();
          break;
        }
      }
    }),

    test('a stream ends by its signal, and attributes work meanwhile and after it', async (context) => {
      await ready(context, expected);
      const abort = new AbortController();
      const stream = await context.device(input.device).createRxStream({ ...input, blocks: 4, signal: abort.signal });
      const attribute = writable(context, expected);
      const values = await Promise.all([attribute.read(), attribute.read()]);
      assert.equal(values[0], values[1]);
      const ended = assert.rejects(async () => {
        for await (const block of stream) {
          block.release();
          abort.abort();
        }
      }, code('ECANCELED'));
      await ended;
      await stream.close();
      assert.equal(await attribute.read(), values[0]);
    }),

    test('a trigger is assigned, told and taken away', async (context) => {
      const { trigger: name } = input;
      if (name === undefined) {
        return;
      }
      const device = context.device(input.device);
      await device.setTrigger(undefined);
      assert.equal(await device.getTrigger(), undefined);
      await device.setTrigger(name);
      assert.equal((await device.getTrigger())?.name, context.device(name).name);
    }),
  ];

  if (refusing !== undefined) {
    cases.push(
      test("a refusal carries the driver's errno", async (context) => {
        const attribute = context.device(refusing.device).attribute(refusing.name);
        await assert.rejects(attribute.write(refusing.value), code(refusing.code));
      }),
    );
  }
  // A program has a USB device open once.
  const several = !uri.startsWith('usb:');
  if (several && expected.shares) {
    cases.push(
      test('two clients stream from one input, each with its channels', async (context) => {
        await ready(context, expected);
        await using other = await open();
        const [first = '', second = ''] = input.channels;
        await using wide = await context
          .device(input.device)
          .createRxStream({ channels: [first, second], samplesPerBlock });
        using before = await take(wide.next());
        assert.equal(before.samples, samplesPerBlock);
        await using narrow = await other.device(input.device).createRxStream({ channels: [second], samplesPerBlock });
        for (let round = 0; round < 3; round++) {
          using a = await take(narrow.next());
          assert.equal(a.channel(second).length, a.samples);
          assert.ok(a.samples > 0);
          using b = await take(wide.next());
          assert.ok(b.samples > 0);
        }
      }),
    );
  } else if (several) {
    cases.push(
      test('a second client of an input is told that it is in use', async (context) => {
        await ready(context, expected);
        await using other = await open();
        await using _stream = await context.device(input.device).createRxStream({ ...input, blocks: 2 });
        await assert.rejects(other.device(input.device).createRxStream({ ...input, blocks: 2 }), code('EBUSY'));
      }),
    );
  }
  if (output !== undefined) {
    cases.push(...outputCases(test, output));
  }
  if (registers !== undefined) {
    cases.push(
      test('a register gives back what was written', async (context) => {
        const device = context.device(registers.device);
        for (const value of [0x12, 0xa5]) {
          await device.writeRegister(registers.register, value);
          assert.equal(await device.readRegister(registers.register), value);
        }
      }),
    );
  }
  if (events !== undefined) {
    cases.push(
      test('events come, and closing ends the wait for one', async (context) => {
        const device = context.device(events.device);
        await device.channel(events.channel).eventAttribute(events.enable).write('1');
        await using stream = await device.openEvents();
        await ready(context, expected);
        await using capture = await device.createRxStream({ ...input, blocks: 4 });
        const flow = (async () => {
          for await (const block of capture) {
            block.release();
          }
        })();
        const { value } = await stream.next();
        assert.equal(value?.channelId, events.channel);
        assert.equal(value?.source, device.channel(events.channel));
        await capture.close();
        await flow;
        await device.channel(events.channel).eventAttribute(events.enable).write('0');
        const waiting = (async () => {
          for (let event = await stream.next(); event.done !== true; event = await stream.next()) {
            // Those that were recorded before.
          }
        })();
        await stream.close();
        await waiting;
      }),
    );
  }
  return cases;
}

type MakeCase = (name: string, run: (context: Context) => Promise<void>) => ConformanceCase;

function outputCases(test: MakeCase, output: NonNullable<Expectations['output']>): readonly ConformanceCase[] {
  const cases = [
    test('an output takes blocks, and a flush waits until they are played', async (context) => {
      await using stream = await context.device(output.device).createTxStream({ samplesPerBlock: 1000, blocks: 4 });
      for (let count = 0; count < 10; count++) {
        const { value } = await stream.next();
        value?.bytes.fill(count);
        value?.send();
      }
      await stream.flush();
      const { blocks, inFlight, bytes } = stream.statistics;
      assert.deepEqual([blocks, inFlight, bytes], [10, 0, 10_000 * stream.layout.bytes]);
    }),

    test('an output takes samples of any length', async (context) => {
      await using stream = await context.device(output.device).createTxStream({ samplesPerBlock: 256 });
      const set = stream.layout.bytes;
      for (const bytes of [1, set - 1, 255 * set, 3 * 256 * set, 7 * set]) {
        await stream.write(new Uint8Array(bytes));
      }
      await stream.flush();
      assert.equal(stream.statistics.inFlight, 0);
      assert.equal(stream.statistics.blocks, 5);
    }),

    test('an output opens again at once', async (context) => {
      for (let round = 0; round < 3; round++) {
        await using stream = await context.device(output.device).createTxStream({ samplesPerBlock: 64 });
        await stream.write(new Uint8Array(64 * stream.layout.bytes));
        await stream.flush();
      }
    }),
  ];
  const { loopback } = output;
  if (loopback !== undefined) {
    cases.push(
      test('what a cyclic block plays comes back through the input', async (context) => {
        const period = 500;
        await using playing = await context
          .device(output.device)
          .createTxStream({ samplesPerBlock: period, cyclic: true });
        const width = playing.layout.bytes / 2;
        await playing.write(Int16Array.from({ length: period * width }, (_, i) => i));
        assert.equal((await playing.next()).done, true);
        await using stream = await context.device(loopback).createRxStream({ samplesPerBlock: 4 * period });
        // What was in the input before the output started may come first.
        for (let tries = 0; ; tries++) {
          using block = await take(stream.next());
          const values = block.interleaved() ?? [];
          const start = values.findIndex((value, i) => value === 0 && values[i + 1] === 1);
          if (start >= 0) {
            const played = Array.from(values.slice(start), Number);
            assert.deepEqual(
              played,
              played.map((_, i) => i % (period * width)),
            );
            return;
          }
          assert.ok(tries < 200, 'the pattern never came');
        }
      }),
    );
  }
  return cases;
}

function writable(context: Context, { writable: { device, channel, name } }: Expectations) {
  const owner = context.device(device);
  return channel === undefined ? owner.attribute(name) : owner.channel(channel).attribute(name);
}

async function ready(context: Context, { input }: Expectations): Promise<Device> {
  const device = context.device(input.device);
  if (input.trigger !== undefined) {
    await device.setTrigger(input.trigger);
  }
  return device;
}

async function take(next: Promise<IteratorResult<RxBlock, undefined>>): Promise<RxBlock> {
  const { value } = await next;
  assert.ok(value !== undefined, 'the stream ended');
  return value;
}

/** @returns what the next block must start with */
function checkCounter(block: RxBlock, first: bigint | undefined): bigint {
  assert.equal(block.layout.bytes, 8);
  const sets = new BigUint64Array(block.bytes.buffer, block.bytes.byteOffset, block.samples);
  let wanted = first ?? sets[0] ?? 0n;
  for (const set of sets) {
    if (set !== wanted) {
      assert.fail(`block ${block.sequence}: set ${set} came instead of ${wanted}`);
    }
    wanted++;
  }
  return wanted;
}

function code(expected: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof IioError, String(error));
    assert.equal(error.code, expected, error.message);
    return true;
  };
}
