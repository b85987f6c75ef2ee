import {
  type AttributeDescription,
  type ChannelDescription,
  type ContextDescription,
  compareByteOrder,
  type DeviceDescription,
  type Direction,
  IioError,
  parseScanFormat,
  type ScanElement,
  sortChannels,
} from '@iio-bridge/protocol';
import { type Channel, ChannelSet, compareChannels, placeAlone, placeEvents, placeShared } from './channel-set.js';
import { LocalContext, type LocalDevice, type ScanElementPaths } from './context.js';
import {
  type ChannelFile,
  channelFile,
  hwmonChannelFile,
  scanElementFile,
  unnumberedChannelFile,
} from './file-names.js';
import type { SysfsTree } from './sysfs-tree.js';

/** The fields of uname(2). */
export interface HostIdentity {
  readonly sysname: string;
  readonly nodename: string;
  readonly release: string;
  readonly version: string;
  readonly machine: string;
}

export interface DiscoveryOptions {
  readonly host: HostIdentity;
  /** Added to, and overriding, those of the machine and of `/etc/libiio.ini`. */
  readonly contextAttributes?: ReadonlyMap<string, string>;
  /** The library version that the document claims; 1.0 stands for "speaks binary". */
  readonly version?: ContextDescription['version'];
  /** Serve hwmon chips as devices too, as libiio does; default true. */
  readonly hwmon?: boolean;
}

const IIO_DEVICES = '/sys/bus/iio/devices';
const HWMON_DEVICES = '/sys/class/hwmon';
const DEBUG_DEVICES = '/sys/kernel/debug/iio';
const CONFIGURATION = '/etc/libiio.ini';

/** Files of a device's directory that are no attributes. */
const NO_ATTRIBUTES: ReadonlySet<string> = new Set(['name', 'label', 'dev', 'uevent', 'waiting_for_supplier']);

/** Files of a buffer's directory that the protocol reaches by operations of its own. */
const NO_BUFFER_ATTRIBUTES: ReadonlySet<string> = new Set(['length', 'enable', 'watermark']);

/**
 * The machine's IIO context, with libiio's naming of channels and attributes, and with every list in the order in which
 * clients of all generations number it.
 *
 * What one device's files fail to say (a scan element without index, a format that makes no sense) does not hide the
 * others: it is left out and named in {@link LocalContext.warnings}.
 *
 * @throws IioError `ENOENT` if the kernel offers neither IIO nor hwmon devices
 */
export function discoverContext(tree: SysfsTree, options: DiscoveryOptions): LocalContext {
  const iio = directoriesOf(tree, IIO_DEVICES);
  const hwmon = options.hwmon === false ? undefined : directoriesOf(tree, HWMON_DEVICES);
  if (iio === undefined && hwmon === undefined) {
    throw new IioError(
      'ENOENT',
      `no IIO devices: ${IIO_DEVICES} is missing; load the driver or the industrialio module`,
    );
  }
  const warnings: string[] = [];
  const found = [
    ...(iio ?? []).map((id) => discoverIioDevice(tree, id, warnings)),
    ...(hwmon ?? []).map((id) => discoverHwmonDevice(tree, id)),
  ].sort((a, b) => compareByteOrder(a.description.id, b.description.id));

  const { host } = options;
  const attributes = new Map([
    ...readConfiguration(tree.read(CONFIGURATION) ?? ''),
    ['local,kernel', host.release] as const,
    ['uri', 'local:'] as const,
    ...(options.contextAttributes ?? []),
  ]);
  const description: ContextDescription = {
    name: 'local',
    description: [host.sysname, host.nodename, host.release, host.version, host.machine].join(' '),
    version: options.version ?? { major: 1, minor: 0, git: 'v1.0' },
    attributes: new Map([...attributes].sort(([a], [b]) => compareByteOrder(a, b))),
    devices: found.map((device) => device.description),
  };
  return new LocalContext(
    description,
    found.map((device) => device.local),
    warnings,
  );
}

interface FoundDevice {
  readonly description: DeviceDescription;
  readonly local: LocalDevice;
}

interface FoundAttribute {
  readonly description: AttributeDescription;
  readonly path: string;
}

interface FoundBuffer {
  readonly index: number;
  readonly direction: Direction | undefined;
  readonly directory: string;
  readonly attributes: readonly FoundAttribute[];
  readonly scanElements: ReadonlyMap<Channel, ScanElementPaths>;
}

function discoverIioDevice(tree: SysfsTree, id: string, warnings: string[]): FoundDevice {
  const directory = `${IIO_DEVICES}/${id}`;
  const channels = new ChannelSet();
  const { labels, files } = separateLabels(filesOf(tree, directory));

  const unplaced: string[] = [];
  for (const file of files) {
    const parsed = channelFile(file);
    if (parsed === undefined) unplaced.push(file);
    else channels.add(parsed, file);
  }
  for (const channel of channels.all) channel.detectExtendedName();
  const buffers = discoverBuffers(tree, directory, channels, warnings);
  const deviceFiles = unplaced
    .filter((file) => !placeShared(file, channels))
    .filter((file) => !placeAlone(file, channels));
  readLabels(tree, directory, labels, (file) => channelFile(file) ?? unnumberedChannelFile(file), channels);
  const deviceEvents = placeEvents(filesOf(tree, `${directory}/events`), channels);

  const sorted = sortChannels(channels.all.sort(compareChannels));
  const attributes = describeFiles(directory, deviceFiles);
  const debugAttributes = describeFiles(`${DEBUG_DEVICES}/${id}`, filesOf(tree, `${DEBUG_DEVICES}/${id}`));
  const eventAttributes = describeFiles(`${directory}/events`, deviceEvents);
  const channelAttributes = sorted.map((channel) => describe(directory, channel.attributes));
  const channelEvents = sorted.map((channel) => describe(`${directory}/events`, channel.eventAttributes));

  return {
    description: {
      ...identityOf(tree, directory, id),
      channels: sorted.map((channel, i) => describeChannel(channel, channelAttributes[i], channelEvents[i])),
      buffers: buffers.map((buffer) => ({
        index: buffer.index,
        direction: buffer.direction ?? (sorted.some(isOutputScanElement) ? 'out' : 'in'),
        attributes: buffer.attributes.map(({ description }) => description),
        channels: sorted.flatMap((channel, position) => (buffer.scanElements.has(channel) ? position : [])),
      })),
      attributes: attributes.map(({ description }) => description),
      debugAttributes: debugAttributes.map(({ description }) => description),
      eventAttributes: eventAttributes.map(({ description }) => description),
    },
    local: {
      id,
      kind: 'iio',
      directory,
      characterDevice: `/dev/${id}`,
      currentTriggerPath: isFile(tree, `${directory}/trigger`, 'current_trigger')
        ? `${directory}/trigger/current_trigger`
        : undefined,
      attributePaths: attributes.map(({ path }) => path),
      debugAttributePaths: debugAttributes.map(({ path }) => path),
      eventAttributePaths: eventAttributes.map(({ path }) => path),
      channels: sorted.map((_, i) => ({
        attributePaths: (channelAttributes[i] ?? []).map(({ path }) => path),
        eventAttributePaths: (channelEvents[i] ?? []).map(({ path }) => path),
      })),
      buffers: buffers.map((buffer) => ({
        index: buffer.index,
        directory: buffer.directory,
        enablePath: `${buffer.directory}/enable`,
        lengthPath: `${buffer.directory}/length`,
        watermarkPath: `${buffer.directory}/watermark`,
        attributePaths: buffer.attributes.map(({ path }) => path),
        scanElements: new Map(
          sorted.flatMap((channel, position) => {
            const paths = buffer.scanElements.get(channel);
            return paths === undefined ? [] : [[position, paths] as const];
          }),
        ),
      })),
    },
  };
}

function discoverHwmonDevice(tree: SysfsTree, id: string): FoundDevice {
  const directory = `${HWMON_DEVICES}/${id}`;
  const channels = new ChannelSet();
  const { labels, files } = separateLabels(filesOf(tree, directory));
  const deviceFiles: string[] = [];
  for (const file of files) {
    const parsed = hwmonChannelFile(file);
    if (parsed === undefined) deviceFiles.push(file);
    else channels.add(parsed, file);
  }
  readLabels(tree, directory, labels, hwmonChannelFile, channels);
  const sorted = channels.all.sort(compareChannels);
  const attributes = describeFiles(directory, deviceFiles);
  const channelAttributes = sorted.map((channel) => describe(directory, channel.attributes));
  return {
    description: {
      ...identityOf(tree, directory, id),
      channels: sorted.map((channel, i) => describeChannel(channel, channelAttributes[i], [])),
      buffers: [],
      attributes: attributes.map(({ description }) => description),
      debugAttributes: [],
      eventAttributes: [],
    },
    local: {
      id,
      kind: 'hwmon',
      directory,
      characterDevice: undefined,
      currentTriggerPath: undefined,
      attributePaths: attributes.map(({ path }) => path),
      debugAttributePaths: [],
      eventAttributePaths: [],
      channels: channelAttributes.map((entries) => ({
        attributePaths: entries.map(({ path }) => path),
        eventAttributePaths: [],
      })),
      buffers: [],
    },
  };
}

/**
 * Buffer 0 is the directory pair `buffer` and `scan_elements`, and others are `buffer<k>`; `buffer0` repeats the pair.
 */
function discoverBuffers(tree: SysfsTree, device: string, channels: ChannelSet, warnings: string[]): FoundBuffer[] {
  const indices = (directoriesOf(tree, device) ?? [])
    .flatMap((name) => {
      const number = name === 'buffer' ? '0' : /^buffer([1-9]\d*)$/.exec(name)?.[1];
      return number === undefined ? [] : Number(number);
    })
    .sort((a, b) => a - b);
  return indices.map((index) => {
    const directory = index === 0 ? `${device}/buffer` : `${device}/buffer${index}`;
    const scanDirectory = index === 0 ? `${device}/scan_elements` : directory;
    const direction = tree.read(`${directory}/direction`)?.trim();
    return {
      index,
      direction: direction === 'in' || direction === 'out' ? direction : undefined,
      directory,
      attributes: describeFiles(
        directory,
        filesOf(tree, directory).filter((file) => {
          return !NO_BUFFER_ATTRIBUTES.has(file) && scanElementFile(file) === undefined;
        }),
      ),
      scanElements: discoverScanElements(tree, scanDirectory, channels, warnings),
    };
  });
}

function discoverScanElements(
  tree: SysfsTree,
  directory: string,
  channels: ChannelSet,
  warnings: string[],
): Map<Channel, ScanElementPaths> {
  const bases = new Set(
    filesOf(tree, directory).flatMap((file) => {
      const parsed = scanElementFile(file);
      return parsed === undefined ? [] : parsed.base;
    }),
  );
  const elements = new Map<Channel, ScanElementPaths>();
  for (const base of [...bases].sort(compareByteOrder)) {
    const paths: ScanElementPaths = {
      enable: `${directory}/${base}_en`,
      index: `${directory}/${base}_index`,
      type: `${directory}/${base}_type`,
    };
    const element = readScanElement(tree, paths, warnings);
    const parsed = channelFile(`${base}_en`) ?? unnumberedChannelFile(`${base}_en`);
    if (element === undefined || parsed === undefined) continue;
    let channel = channels.ensure(parsed.direction, parsed.channelId);
    if (elements.has(channel)) {
      // A type or modifier that is not known here: two scan elements must never become one.
      channel = channels.ensure(parsed.direction, base.slice(parsed.direction.length + 1));
    }
    channel.scanElement ??= element;
    elements.set(channel, paths);
  }
  return elements;
}

function readScanElement(tree: SysfsTree, paths: ScanElementPaths, warnings: string[]): ScanElement | undefined {
  const index = tree.read(paths.index)?.trim();
  const type = tree.read(paths.type)?.trim();
  if (index === undefined || type === undefined || !/^\d+$/.test(index)) {
    warnings.push(`${paths.enable}: no scan element, because its _index or _type cannot be read`);
    return undefined;
  }
  try {
    return { index: Number(index), format: parseScanFormat(type) };
  } catch (error) {
    warnings.push(`${paths.type}: no scan element: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

function separateLabels(names: readonly string[]): { labels: string[]; files: string[] } {
  const candidates = names.filter((name) => !NO_ATTRIBUTES.has(name));
  return {
    labels: candidates.filter((name) => name.endsWith('_label')),
    files: candidates.filter((name) => !name.endsWith('_label')),
  };
}

function readLabels(
  tree: SysfsTree,
  directory: string,
  files: readonly string[],
  parse: (file: string) => ChannelFile | undefined,
  channels: ChannelSet,
): void {
  for (const file of files) {
    const parsed = parse(file);
    const channel = parsed && channels.get(parsed.direction, parsed.channelId);
    if (channel === undefined) continue;
    channel.label = textOf(tree, `${directory}/${file}`);
    // Clients that do not know of labels find them here.
    channel.attributes.set('label', file);
  }
}

function describeChannel(
  channel: Channel,
  attributes: readonly FoundAttribute[] = [],
  eventAttributes: readonly FoundAttribute[] = [],
): ChannelDescription {
  return {
    id: channel.id,
    direction: channel.direction,
    ...(channel.name === undefined ? {} : { name: channel.name }),
    ...(channel.label === undefined ? {} : { label: channel.label }),
    ...(channel.scanElement === undefined ? {} : { scanElement: channel.scanElement }),
    attributes: attributes.map(({ description }) => description),
    eventAttributes: eventAttributes.map(({ description }) => description),
  };
}

function describeFiles(directory: string, files: readonly string[]): FoundAttribute[] {
  return describe(directory, new Map(files.map((file) => [file, file])));
}

/** By name, in plain byte order. */
function describe(directory: string, fileByName: ReadonlyMap<string, string>): FoundAttribute[] {
  return [...fileByName]
    .sort(([a], [b]) => compareByteOrder(a, b))
    .map(([name, file]) => ({
      description: file === name ? { name } : { name, filename: file },
      path: `${directory}/${file}`,
    }));
}

function identityOf(tree: SysfsTree, directory: string, id: string): Pick<DeviceDescription, 'id' | 'name' | 'label'> {
  const name = textOf(tree, `${directory}/name`);
  const label = textOf(tree, `${directory}/label`);
  return { id, ...(name === undefined ? {} : { name }), ...(label === undefined ? {} : { label }) };
}

/** The content of a one-line file; `undefined` if it is missing or empty. */
function textOf(tree: SysfsTree, path: string): string | undefined {
  const text = tree.read(path)?.replace(/\n$/, '');
  return text === '' ? undefined : text;
}

function isOutputScanElement(channel: Channel): boolean {
  return channel.direction === 'out' && channel.scanElement !== undefined;
}

function filesOf(tree: SysfsTree, directory: string): string[] {
  const entries = tree.list(directory) ?? [];
  return entries
    .filter(({ kind }) => kind === 'file')
    .map(({ name }) => name)
    .sort(compareByteOrder);
}

function directoriesOf(tree: SysfsTree, directory: string): string[] | undefined {
  const entries = tree.list(directory);
  return entries?.filter(({ kind }) => kind === 'directory').map(({ name }) => name);
}

function isFile(tree: SysfsTree, directory: string, name: string): boolean {
  return tree.list(directory)?.some((entry) => entry.name === name && entry.kind === 'file') ?? false;
}

/** `key = value` lines of the section `[Context Attributes]` of libiio's configuration file. */
function readConfiguration(text: string): Map<string, string> {
  const attributes = new Map<string, string>();
  let section: string | undefined;
  for (const line of text.split('\n').map((entry) => entry.trim())) {
    const header = /^\[(.*)\]$/.exec(line)?.[1];
    if (header !== undefined) section = header;
    const [, key, value] = /^([^#;=][^=]*)=(.*)$/.exec(line) ?? [];
    if (section === 'Context Attributes' && key !== undefined) attributes.set(key.trim(), (value ?? '').trim());
  }
  return attributes;
}
