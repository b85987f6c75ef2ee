import { type Direction, IioError } from '@iio-bridge/protocol';
import type { Command } from 'commander';
import type { Attribute, Context, Device } from '../index.js';
import type { Interruption } from './interruption.js';
import { type CommonOptions, openInterruptible, usageError, wholeNumber, withCommonOptions } from './options.js';
import { print, toJson } from './output.js';

interface AttrOptions extends CommonOptions {
  readonly deviceAttr?: true;
  readonly channelAttr?: true;
  readonly bufferAttr?: true;
  readonly debugAttr?: true;
  readonly contextAttr?: true;
  readonly eventAttr?: true;
  readonly inputChannel?: true;
  readonly outputChannel?: true;
  readonly buffer?: number;
  readonly quiet?: true;
}

type Kind = 'device' | 'channel' | 'buffer' | 'debug' | 'event' | 'context';

/** How many names lead to an attribute. */
const NAMES = { device: 2, channel: 3, buffer: 2, debug: 2, event: 3, context: 1 } as const satisfies Record<
  Kind,
  number
>;

/** Something with a value: an attribute of the server, or of the context, which are constants. */
type Readable = Pick<Attribute, 'path' | 'read'> & Partial<Pick<Attribute, 'write'>>;

interface Selection {
  readonly attributes: readonly Readable[];
  /** All names were given, without wildcards: there is one, and only its value is of interest. */
  readonly isExact: boolean;
}

export function addAttrCommand(program: Command, interruption: Interruption): void {
  withCommonOptions(program.command('attr'))
    .description('print attributes, after writing a value if one is given; a name left out, or with * or ?, may be any')
    .usage(
      '[options] [-d] [device] [attribute] [value]\n' +
        '       iio-client attr [options] -c|-E [device] [channel] [attribute] [value]\n' +
        '       iio-client attr [options] -B|-D [device] [attribute] [value]\n' +
        '       iio-client attr [options] -C [attribute]',
    )
    .argument('[words...]', 'names, and a value to write')
    .option('-d, --device-attr', 'attributes of devices; the default')
    .option('-c, --channel-attr', 'attributes of channels')
    .option('-B, --buffer-attr', 'attributes of buffers')
    .option('-D, --debug-attr', 'debug attributes')
    .option('-E, --event-attr', 'attributes of events: what switches them on, thresholds')
    .option('-C, --context-attr', 'attributes of the context; they cannot be written')
    .option('-i, --input-channel', 'with -c and -E: input channels only')
    .option('-o, --output-channel', 'with -c and -E: output channels only')
    .option('--buffer <index>', 'with -B: this buffer only', wholeNumber)
    .option('-q, --quiet', 'print values only')
    .action((words: string[], options: AttrOptions) => runAttr(words, options, interruption));
}

async function runAttr(words: readonly string[], options: AttrOptions, interruption: Interruption): Promise<void> {
  const kind = kindOf(options);
  const names = NAMES[kind];
  if (words.length > (kind === 'context' ? names : names + 1)) {
    throw usageError(`too many words: ${words.join(' ')}`);
  }
  await using context = await openInterruptible(options, interruption);
  const { attributes, isExact } = select(context, kind, words.slice(0, names), options);
  const value = words[names];
  if (value !== undefined) {
    for (const attribute of attributes) {
      await attribute.write?.(value);
    }
  }
  const results = await readAll(attributes, isExact);
  const [first] = results;
  if (options.json === true) {
    await print(toJson(isExact ? first : results));
  } else {
    const isBare = isExact || options.quiet === true;
    await print(results.map((result) => `${isBare ? '' : `${result.attribute}: `}${text(result)}\n`).join(''));
  }
}

function kindOf(options: AttrOptions): Kind {
  const flags: Record<Kind, true | undefined> = {
    device: options.deviceAttr,
    channel: options.channelAttr,
    buffer: options.bufferAttr,
    debug: options.debugAttr,
    event: options.eventAttr,
    context: options.contextAttr,
  };
  const kinds = (['device', 'channel', 'buffer', 'debug', 'event', 'context'] as const).filter((kind) => flags[kind]);
  if (kinds.length > 1) {
    throw usageError('only one of -d, -c, -B, -D, -E and -C can be given');
  }
  return kinds[0] ?? 'device';
}

interface Result {
  readonly attribute: string;
  readonly value?: string;
  readonly error?: string;
}

async function readAll(attributes: readonly Readable[], isExact: boolean): Promise<readonly Result[]> {
  const results: Result[] = [];
  for (const attribute of attributes) {
    try {
      results.push({ attribute: attribute.path, value: (await attribute.read()).trimEnd() });
    } catch (error) {
      if (isExact || !(error instanceof IioError) || error.code === 'DISCONNECTED' || error.code === 'ECANCELED') {
        throw error;
      }
      results.push({ attribute: attribute.path, error: error.code });
    }
  }
  return results;
}

function text({ value, error }: Result): string {
  return value ?? `ERROR ${error}`;
}

function select(context: Context, kind: Kind, names: readonly string[], options: AttrOptions): Selection {
  if (kind === 'context') {
    const attributes = selectMap(context.attributes, names[0], (name) => ({
      path: name,
      read: async () => context.attributes.get(name) ?? '',
    }));
    return found(attributes, names, 1, `${context.uri} has no context attribute`, [...context.attributes.keys()]);
  }
  const [deviceName, ...rest] = names;
  const exactDevice = exactName(deviceName);
  const devices =
    exactDevice === undefined
      ? context.devices.filter(({ id, name, label }) => [id, name, label].some((key) => matches(key, deviceName)))
      : [context.device(exactDevice)];
  const owners = devices.flatMap((device) => ownersOf(device, kind, rest, options));
  const attributeName = rest[NAMES[kind] - 2];
  const attributes = owners.flatMap((owner) => selectMap(owner, attributeName, (name) => owner.get(name)));
  const where = devices.map(({ id, name }) => name ?? id).join(', ') || context.uri;
  const known = [...new Set(owners.flatMap((owner) => [...owner.keys()]))];
  return found(
    attributes,
    names,
    NAMES[kind],
    `${where} has no ${kind === 'device' ? '' : `${kind} `}attribute`,
    known,
  );
}

/** What the attributes belong to: one list of attributes each. */
function ownersOf(
  device: Device,
  kind: Exclude<Kind, 'context'>,
  names: readonly string[],
  options: AttrOptions,
): readonly ReadonlyMap<string, Attribute>[] {
  switch (kind) {
    case 'device':
      return [device.attributes];
    case 'debug':
      return [device.debugAttributes];
    case 'buffer':
      return options.buffer === undefined
        ? device.buffers.map(({ attributes }) => attributes)
        : [device.buffer(options.buffer).attributes];
    case 'channel':
      return channelsOf(device, names[0], options).map(({ attributes }) => attributes);
    case 'event':
      return [
        ...(exactName(names[0]) === undefined ? [device.eventAttributes] : []),
        ...channelsOf(device, names[0], options).map(({ eventAttributes }) => eventAttributes),
      ];
  }
}

function channelsOf(device: Device, channelName: string | undefined, options: AttrOptions) {
  const { inputChannel, outputChannel } = options;
  const direction: Direction | undefined =
    inputChannel === outputChannel ? undefined : inputChannel === true ? 'in' : 'out';
  const exact = exactName(channelName);
  if (exact !== undefined) {
    return [device.channel(exact, direction)];
  }
  return device.channels
    .filter((channel) => direction === undefined || channel.direction === direction)
    .filter(({ description: { id, name, label } }) => [id, name, label].some((key) => matches(key, channelName)));
}

function selectMap<T>(
  map: ReadonlyMap<string, unknown>,
  wanted: string | undefined,
  make: (name: string) => T | undefined,
): T[] {
  return [...map.keys()].filter((name) => matches(name, wanted)).flatMap((name) => make(name) ?? []);
}

/** @throws IioError `NO_ATTRIBUTE` for a name that nothing has; a pattern may match nothing */
function found(
  attributes: readonly Readable[],
  names: readonly string[],
  all: number,
  complaint: string,
  known: readonly string[],
): Selection {
  const last = names.length === all ? exactName(names.at(-1)) : undefined;
  if (attributes.length === 0 && last !== undefined) {
    throw new IioError('NO_ATTRIBUTE', `${complaint} '${last}' (there: ${known.join(', ') || 'none'})`);
  }
  const isExact =
    names.length === all && names.every((name) => exactName(name) !== undefined) && attributes.length === 1;
  return { attributes, isExact };
}

/** A name without wildcards. */
function exactName(name: string | undefined): string | undefined {
  return name === undefined || /[*?]/.test(name) ? undefined : name;
}

/** `*` stands for any text, `?` for any character, as in a shell. */
function matches(name: string | undefined, pattern: string | undefined): boolean {
  if (name === undefined || pattern === undefined) {
    return name !== undefined;
  }
  const expression = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${expression}$`, 's').test(name);
}
