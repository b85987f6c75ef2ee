import { Context, type Device, IioError, type RxBlock } from '@iio-bridge/host-client';
import { CounterChecker } from '../../bench/counter.js';
import { PatternChecker } from './counter-pattern.js';

/**
 * Streams from a simulated converter through the client library and checks every sample set against the documented
 * counter pattern: `stream-check REQUEST`, where REQUEST is a {@link StreamRequest} as JSON. Prints {@link StreamEvent}s
 * as JSON lines. Ends with code 1 if the stream fails.
 *
 * The converter must be set to the counter signal, and be free-running.
 */

export interface StreamRequest {
  readonly device: string;
  /** All of the device's if absent. */
  readonly channels?: readonly string[];
  readonly samplesPerBlock: number;
  readonly blocks?: number;
  /** Ends after this many bytes; without it, when something ends it. */
  readonly bytes?: number;
}

export interface StreamResult {
  readonly bytes: number;
  readonly blocks: number;
  /** Sample sets checked. */
  readonly sets: number;
  /** Sample sets that the counter jumped over. */
  readonly lost: number;
  readonly mismatches: number;
  readonly firstMismatch?: unknown;
  /** Timestamp of sample set 0 minus the wall clock of the moment before the stream was opened, in ms. */
  readonly timestampOffsetMs?: number;
  readonly channels: readonly string[];
  /** From the opening of the context until the first block has arrived. */
  readonly firstBlockMs: number;
  /** From the first block on. */
  readonly mbPerSecond: number;
}

export type StreamEvent =
  | { readonly event: 'opened'; readonly devices: readonly string[] }
  | { readonly event: 'streaming'; readonly firstBlockMs: number }
  | ({ readonly event: 'result' } & StreamResult)
  | { readonly event: 'failed'; readonly code: string; readonly message: string; readonly mismatches: number };

interface Checker {
  check(block: RxBlock): void;
  readonly result: Pick<StreamResult, 'sets' | 'lost' | 'mismatches' | 'firstMismatch'> & {
    readonly startedAt?: bigint;
  };
}

function emit(event: StreamEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** All channels of the plain converter make up the whole number, which tells loss from damage, and is quick to check. */
function wholeCounter(): Checker {
  const checker = new CounterChecker('every-set');
  return {
    check: (block) => checker.check(block.bytes),
    get result() {
      return { sets: checker.checkedSets, lost: checker.lostSets, mismatches: checker.mismatches };
    },
  };
}

function parts(device: string, channels: readonly string[], samplingFrequency: number): Checker {
  const checker = new PatternChecker(device, channels, samplingFrequency);
  return {
    check: (block) => {
      if (checker.sets === 0) {
        for (const channel of channels) {
          checker.checkDecoded(channel, block.channel(channel));
        }
      }
      checker.check(block.bytes);
    },
    get result() {
      const { sets, mismatches, firstMismatch, startedAt } = checker;
      return {
        sets,
        mismatches,
        lost: 0,
        ...(firstMismatch === undefined ? {} : { firstMismatch }),
        ...(startedAt === undefined ? {} : { startedAt }),
      };
    },
  };
}

async function checkerFor(device: Device, request: StreamRequest, channels: readonly string[]): Promise<Checker> {
  if (request.device === 'iio-sim-adc' && channels.length === 4) {
    return wholeCounter();
  }
  return parts(request.device, channels, Number(await device.attribute('sampling_frequency').read()));
}

async function run(request: StreamRequest): Promise<void> {
  const openedAt = performance.now();
  await using context = await Context.open('usb:');
  emit({ event: 'opened', devices: context.devices.map(({ id, name }) => name ?? id) });
  const device = context.device(request.device);
  const channels =
    request.channels ??
    device.channels.filter(({ description: { scanElement } }) => scanElement !== undefined).map(({ id }) => id);
  const checker = await checkerFor(device, request, channels);
  const wallClock = Date.now();
  await using stream = await device.createRxStream({
    samplesPerBlock: request.samplesPerBlock,
    channels,
    ...(request.blocks === undefined ? {} : { blocks: request.blocks }),
  });
  let bytes = 0;
  let blocks = 0;
  let firstBlockMs = 0;
  try {
    for await (using block of stream) {
      if (blocks === 0) {
        firstBlockMs = performance.now() - openedAt;
        emit({ event: 'streaming', firstBlockMs });
      }
      checker.check(block);
      bytes += block.bytes.length;
      blocks += 1;
      if (bytes >= (request.bytes ?? Number.POSITIVE_INFINITY)) {
        break;
      }
    }
  } catch (error) {
    throw error instanceof IioError ? new StreamFailure(error, checker.result.mismatches) : error;
  }
  const { startedAt, ...counts } = checker.result;
  emit({
    event: 'result',
    bytes,
    blocks,
    channels: stream.layout.channels.map(({ channel }) => channel.id),
    ...counts,
    ...(startedAt === undefined ? {} : { timestampOffsetMs: Number(startedAt / 1_000_000n) - wallClock }),
    firstBlockMs,
    mbPerSecond: stream.statistics.bytesPerSecond / 1e6,
  });
}

/** A stream that ended with an error after it had run; what it had delivered counts. */
class StreamFailure extends Error {
  readonly mismatches: number;

  constructor(cause: IioError, mismatches: number) {
    super(cause.message, { cause });
    this.mismatches = mismatches;
  }
}

try {
  await run(JSON.parse(process.argv[2] ?? ''));
} catch (error) {
  const cause = error instanceof StreamFailure ? error.cause : error;
  if (!(cause instanceof IioError)) {
    throw error;
  }
  const mismatches = error instanceof StreamFailure ? error.mismatches : 0;
  emit({ event: 'failed', code: cause.code, message: cause.message, mismatches });
  process.exitCode = 1;
}
