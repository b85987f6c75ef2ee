import type { Direction } from '@iio-bridge/protocol';

/** What READ and WRITE name: one attribute of a kind, or all of them where `attribute` is undefined. */
export type AttributeTarget =
  | {
      readonly kind: 'device' | 'debug' | 'buffer';
      readonly device: string;
      readonly attribute: string | undefined;
    }
  | {
      readonly kind: 'channel';
      readonly device: string;
      readonly direction: Direction;
      readonly channel: string;
      readonly attribute: string | undefined;
    };

/** One line of the text protocol. Devices, channels and attributes are still names; numbers are integers. */
export type TextCommand =
  | { readonly command: 'help' | 'version' | 'print' | 'zprint' | 'exit' | 'binary' }
  | { readonly command: 'timeout'; readonly ms: number }
  | { readonly command: 'read'; readonly target: AttributeTarget }
  /** `bytes` raw bytes follow the line. */
  | { readonly command: 'write'; readonly target: AttributeTarget; readonly bytes: number }
  | { readonly command: 'get-trigger'; readonly device: string }
  | { readonly command: 'set-trigger'; readonly device: string; readonly trigger: string | undefined }
  | {
      readonly command: 'open';
      readonly device: string;
      readonly samples: number;
      readonly mask: string;
      readonly cyclic: boolean;
    }
  | { readonly command: 'close'; readonly device: string }
  | { readonly command: 'read-buffer' | 'write-buffer'; readonly device: string; readonly bytes: number }
  | { readonly command: 'set-buffers-count'; readonly device: string; readonly count: number };

/**
 * Reads one command line, without its newline.
 *
 * Keywords are all upper or all lower case. Names are looser than iiod's: any run of visible characters will do, so that
 * names with `&`, `+` or a second comma can be reached too.
 *
 * @returns `undefined` for a blank line, `'syntax-error'` for what is no command
 */
export function parseCommand(line: string): TextCommand | 'syntax-error' | undefined {
  const words = line.split(/[ \t\r]+/).filter((word) => word !== '');
  const [verb, ...args] = words;
  if (verb === undefined) {
    return undefined;
  }
  if (words.some(hasControlCharacter)) {
    return 'syntax-error';
  }
  return parseWords(keyword(verb), args) ?? 'syntax-error';
}

function parseWords(verb: string | undefined, args: readonly string[]): TextCommand | undefined {
  const [device, second, third, fourth] = args;
  const sessionCommand = SESSION_COMMANDS.get(verb ?? '');
  if (sessionCommand !== undefined) {
    return args.length === 0 ? { command: sessionCommand } : undefined;
  }
  if (device === undefined) {
    return undefined;
  }
  switch (verb) {
    case 'TIMEOUT': {
      const ms = integer(device);
      return ms === undefined || args.length > 1 ? undefined : { command: 'timeout', ms };
    }
    case 'READ': {
      const target = attributeTarget(device, args.slice(1));
      return target && { command: 'read', target };
    }
    case 'WRITE': {
      const bytes = size(args.at(-1));
      const target = attributeTarget(device, args.slice(1, -1));
      return args.length < 2 || bytes === undefined || target === undefined
        ? undefined
        : { command: 'write', target, bytes };
    }
    case 'GETTRIG':
      return args.length > 1 ? undefined : { command: 'get-trigger', device };
    case 'SETTRIG':
      return args.length > 2 ? undefined : { command: 'set-trigger', device, trigger: second };
    case 'OPEN': {
      const samples = size(second);
      const cyclic = keyword(fourth) === 'CYCLIC';
      return samples === undefined || third === undefined || args.length !== (cyclic ? 4 : 3)
        ? undefined
        : { command: 'open', device, samples, mask: third, cyclic };
    }
    case 'CLOSE':
      return args.length > 1 ? undefined : { command: 'close', device };
    case 'READBUF':
    case 'WRITEBUF': {
      const bytes = size(second);
      const command = verb === 'READBUF' ? 'read-buffer' : 'write-buffer';
      return bytes === undefined || args.length > 2 ? undefined : { command, device, bytes };
    }
    case 'SET': {
      const count = integer(third);
      return count === undefined || keyword(second) !== 'BUFFERS_COUNT' || args.length > 3
        ? undefined
        : { command: 'set-buffers-count', device, count };
    }
    default:
      return undefined;
  }
}

const SESSION_COMMANDS: ReadonlyMap<string, 'help' | 'version' | 'print' | 'zprint' | 'exit' | 'binary'> = new Map([
  ['HELP', 'help'],
  ['VERSION', 'version'],
  ['PRINT', 'print'],
  ['ZPRINT', 'zprint'],
  ['EXIT', 'exit'],
  ['QUIT', 'exit'],
  ['BINARY', 'binary'],
]);

/** What stands between the device and the end of READ, or the byte count of WRITE. */
function attributeTarget(device: string, words: readonly string[]): AttributeTarget | undefined {
  const [first, second, third] = words;
  switch (keyword(first)) {
    case 'DEBUG':
    case 'BUFFER':
      return words.length > 2
        ? undefined
        : { kind: keyword(first) === 'DEBUG' ? 'debug' : 'buffer', device, attribute: second };
    case 'INPUT':
    case 'OUTPUT':
      return second === undefined || words.length > 3
        ? undefined
        : {
            kind: 'channel',
            device,
            direction: keyword(first) === 'INPUT' ? 'in' : 'out',
            channel: second,
            attribute: third,
          };
    default:
      return words.length > 1 ? undefined : { kind: 'device', device, attribute: first };
  }
}

function hasControlCharacter(word: string): boolean {
  return Array.from(word).some((character) => character < ' ' || character === '\u007f');
}

/** In upper case; undefined where upper and lower case are mixed. */
function keyword(word: string | undefined): string | undefined {
  const upper = word?.toUpperCase();
  return word === upper || word === word?.toLowerCase() ? upper : undefined;
}

function integer(word: string | undefined): number | undefined {
  return word !== undefined && /^[+-]?\d+$/.test(word) ? Number(word) : undefined;
}

/** Beyond 2^53 it is no longer exact, and far beyond every limit. */
function size(word: string | undefined): number | undefined {
  return word !== undefined && /^\d+$/.test(word) ? Number(word) : undefined;
}
