import { type AttributeDescription, formatScanFormat, IioError } from '@iio-bridge/protocol';
import type { Command } from 'commander';
import type { Attribute } from '../core/attribute.js';
import type { Context } from '../core/context.js';
import type { Device } from '../core/device.js';
import type { Interruption } from './interruption.js';
import { type CommonOptions, openInterruptible, withCommonOptions } from './options.js';
import { print, toJson } from './output.js';

/** An attribute's value, or the code of the error that reading it gave. */
type Value = { readonly value: string } | { readonly error: string };
type Values = Readonly<Record<string, Value>>;

interface ChannelInfo {
  readonly id: string;
  readonly direction: 'in' | 'out';
  readonly name?: string;
  readonly label?: string;
  readonly scanIndex?: number;
  readonly format?: string;
  readonly attributes: Values;
}

interface DeviceInfo {
  readonly id: string;
  readonly name?: string;
  readonly label?: string;
  readonly channels: readonly ChannelInfo[];
  readonly buffers: readonly {
    readonly index: number;
    readonly direction: 'in' | 'out';
    readonly channels: readonly string[];
    readonly attributes: Values;
  }[];
  readonly attributes: Values;
  readonly debugAttributes: Values;
  readonly eventAttributes: readonly string[];
}

/** Everything there is to know about a context, every readable attribute read once. The form that `--json` prints. */
export interface ContextInfo {
  readonly uri: string;
  readonly description: string;
  readonly version: { readonly major: number; readonly minor: number; readonly git: string };
  readonly attributes: Readonly<Record<string, string>>;
  readonly devices: readonly DeviceInfo[];
}

export function addInfoCommand(program: Command, interruption: Interruption): void {
  withCommonOptions(program.command('info'))
    .description('show devices, channels and buffers with the values of their attributes')
    .action((options: CommonOptions) => runInfo(options, interruption));
}

async function runInfo(options: CommonOptions, interruption: Interruption): Promise<void> {
  await using context = await openInterruptible(options, interruption);
  const info = await collectInfo(context);
  await print(options.json === true ? toJson(info) : formatInfo(info));
}

/** Reads all attributes, one after the other. One that fails shows its error; only a lost device ends the work. */
export async function collectInfo(context: Context): Promise<ContextInfo> {
  const devices: DeviceInfo[] = [];
  for (const device of context.devices) {
    devices.push(await collectDevice(device));
  }
  return {
    uri: context.uri,
    description: context.description.description,
    version: context.description.version,
    attributes: Object.fromEntries(context.attributes),
    devices,
  };
}

async function collectDevice(device: Device): Promise<DeviceInfo> {
  const channels: ChannelInfo[] = [];
  for (const { description, attributes } of device.channels) {
    const { id, direction, name, label, scanElement } = description;
    channels.push({
      id,
      direction,
      ...(name === undefined ? {} : { name }),
      ...(label === undefined ? {} : { label }),
      ...(scanElement === undefined
        ? {}
        : { scanIndex: scanElement.index, format: formatScanFormat(scanElement.format) }),
      attributes: await readAll(attributes),
    });
  }
  const buffers: DeviceInfo['buffers'][number][] = [];
  for (const { index, direction, description, attributes } of device.buffers) {
    const ids = description.channels.flatMap((position) => device.channels[position]?.id ?? []);
    buffers.push({ index, direction, channels: ids, attributes: await readAll(attributes) });
  }
  const { id, name, label, eventAttributes } = device.description;
  return {
    id,
    ...(name === undefined ? {} : { name }),
    ...(label === undefined ? {} : { label }),
    channels,
    buffers,
    attributes: await readAll(device.attributes),
    debugAttributes: await readAll(device.debugAttributes),
    eventAttributes: eventAttributes.map((attribute: AttributeDescription) => attribute.name),
  };
}

async function readAll(attributes: ReadonlyMap<string, Attribute>): Promise<Values> {
  const values: [string, Value][] = [];
  for (const [name, attribute] of attributes) {
    try {
      values.push([name, { value: (await attribute.read()).trimEnd() }]);
    } catch (error) {
      if (!(error instanceof IioError) || error.code === 'DISCONNECTED') {
        throw error;
      }
      values.push([name, { error: error.code }]);
    }
  }
  return Object.fromEntries(values);
}

/** The tree that `iio-client info` prints. */
export function formatInfo(info: ContextInfo): string {
  const { major, minor, git } = info.version;
  const lines = [
    `IIO context ${info.uri}`,
    `Description: ${info.description}`,
    `Server version: ${major}.${minor} (git ${git})`,
    `Context attributes: ${Object.keys(info.attributes).length}`,
    ...Object.entries(info.attributes).map(([name, value]) => `  ${name}: ${value}`),
    `Devices: ${info.devices.length}`,
    ...info.devices.flatMap((device) => formatDevice(device).map((line) => `  ${line}`)),
  ];
  return `${lines.join('\n')}\n`;
}

function formatDevice(device: DeviceInfo): readonly string[] {
  return [
    `${device.id}${titled(device)}`,
    ...section('channels', device.channels, (channel) => [
      `${channel.id}${titled(channel)} (${channel.direction === 'in' ? 'input' : 'output'}${scanned(channel)})`,
      ...formatValues(channel.attributes).map(indent),
    ]),
    ...section('buffers', device.buffers, ({ index, direction, channels, attributes }) => [
      `buffer ${index} (${direction === 'in' ? 'input' : 'output'}: ${channels.join(', ')})`,
      ...formatValues(attributes).map(indent),
    ]),
    ...section('attributes', formatValues(device.attributes), (line) => [line]),
    ...section('debug attributes', formatValues(device.debugAttributes), (line) => [line]),
    ...section('event attributes', device.eventAttributes, (name) => [name]),
  ];
}

function titled({ name, label }: { readonly name?: string; readonly label?: string }): string {
  return `${name === undefined ? '' : `: ${name}`}${label === undefined ? '' : ` [${label}]`}`;
}

function scanned({ scanIndex, format }: ChannelInfo): string {
  return scanIndex === undefined ? '' : `, index ${scanIndex}, format ${format}`;
}

function formatValues(values: Values): readonly string[] {
  return Object.entries(values).map(([name, read]) =>
    'value' in read ? `${name}: ${read.value.replaceAll('\n', '\n    ')}` : `${name}: ERROR ${read.error}`,
  );
}

function section<T>(title: string, items: readonly T[], format: (item: T) => readonly string[]): readonly string[] {
  return items.length === 0
    ? []
    : [`  ${items.length} ${title}:`, ...items.flatMap(format).map((line) => `    ${line}`)];
}

function indent(line: string): string {
  return `  ${line}`;
}
