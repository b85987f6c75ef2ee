import type { FallbackCode, StreamMode } from './stream-mode.js';

/** What is known of every buffer. Counts are totals since the buffer was opened. */
interface CommonFigures {
  /** `idle`: nothing has been moved yet that would tell. */
  readonly mode: StreamMode | 'idle';
  readonly fallbacks: readonly FallbackCode[];
  /** Moved between the hardware and this process. */
  readonly blocks: number;
  readonly bytes: number;
}

export interface InputFigures extends CommonFigures {
  readonly direction: 'in';
  /** Gaps: times at which the enabled buffer had no block to fill. */
  readonly overruns: number;
  /** Sample sets lost in them. */
  readonly lostSamples: number;
  /** Blocks that are captured and wait for a client, and blocks in all. */
  readonly ringFill: { readonly waiting: number; readonly blocks: number };
}

export interface OutputFigures extends CommonFigures {
  readonly direction: 'out';
  /** Times at which the enabled buffer had no block to play. */
  readonly underruns: number;
  /** Sample sets that were not played meanwhile. */
  readonly unplayedSamples: number;
}

export type BufferFigures = InputFigures | OutputFigures;

/** An open buffer, as far as its figures go. */
export interface FiguresProvider {
  figures(): Promise<BufferFigures>;
}

type Format<F> = Readonly<Record<string, (figures: F) => string | number>>;

const COMMON: Format<BufferFigures> = {
  mode: ({ mode }) => mode,
  fallbacks: ({ fallbacks }) => fallbacks.join(' '),
  blocks: ({ blocks }) => blocks,
  bytes: ({ bytes }) => bytes,
};

const INPUT: Format<InputFigures> = {
  ...COMMON,
  overruns: ({ overruns }) => overruns,
  lost_samples: ({ lostSamples }) => lostSamples,
  ring_fill: ({ ringFill: { waiting, blocks } }) => `${waiting}/${blocks}`,
};

const OUTPUT: Format<OutputFigures> = {
  ...COMMON,
  underruns: ({ underruns }) => underruns,
  unplayed_samples: ({ unplayedSamples }) => unplayedSamples,
};

/** The attributes that show them (docs/EXTENSIONS.md), by direction. */
export const FIGURE_ATTRIBUTES = { in: Object.keys(INPUT), out: Object.keys(OUTPUT) } as const;

const IDLE = { mode: 'idle', fallbacks: [], blocks: 0, bytes: 0 } as const;
const IDLE_INPUT: InputFigures = {
  ...IDLE,
  direction: 'in',
  overruns: 0,
  lostSamples: 0,
  ringFill: { waiting: 0, blocks: 0 },
};
const IDLE_OUTPUT: OutputFigures = { ...IDLE, direction: 'out', underruns: 0, unplayedSamples: 0 };

/** What an attribute shows; undefined if there is none of that name for the direction. */
export function showFigure(figures: BufferFigures, attribute: string): string | undefined {
  const value = figures.direction === 'in' ? INPUT[attribute]?.(figures) : OUTPUT[attribute]?.(figures);
  return value === undefined ? undefined : String(value);
}

/**
 * The figures of all buffers, by device id and buffer index: of those that are open from their provider, of the others
 * as they were when they were closed.
 */
export class BufferStatistics {
  readonly #providers = new Map<string, FiguresProvider>();
  readonly #last = new Map<string, BufferFigures>();

  /** The buffer has been opened: from here on `provider` is asked. Whoever calls this calls {@link closing} later. */
  opened(deviceId: string, buffer: number, provider: FiguresProvider): void {
    this.#providers.set(keyOf(deviceId, buffer), provider);
  }

  /** To be called before what `provider` asks is gone. Does nothing if another has taken its place. */
  async closing(deviceId: string, buffer: number, provider: FiguresProvider): Promise<void> {
    const key = keyOf(deviceId, buffer);
    if (this.#providers.get(key) !== provider) {
      return;
    }
    try {
      const figures = await provider.figures();
      if (this.#providers.get(key) === provider) {
        this.#last.set(key, figures);
      }
    } finally {
      if (this.#providers.get(key) === provider) {
        this.#providers.delete(key);
      }
    }
  }

  async figures(deviceId: string, buffer: number, direction: 'in' | 'out'): Promise<BufferFigures> {
    const key = keyOf(deviceId, buffer);
    const idle = direction === 'in' ? IDLE_INPUT : IDLE_OUTPUT;
    return (await this.#providers.get(key)?.figures()) ?? this.#last.get(key) ?? idle;
  }
}

function keyOf(deviceId: string, buffer: number): string {
  return `${deviceId}:${buffer}`;
}
