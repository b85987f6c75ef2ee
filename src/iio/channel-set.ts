import { compareByteOrder, type Direction, type ScanElement } from '@iio-bridge/protocol';
import { type ChannelFile, sharedTypeMatch, unnumberedChannelFile } from './file-names.js';

/** A channel under construction. */
export class Channel {
  readonly id: string;
  readonly direction: Direction;
  name: string | undefined;
  label: string | undefined;
  scanElement: ScanElement | undefined;
  /** File name by short name. */
  attributes = new Map<string, string>();
  readonly eventAttributes = new Map<string, string>();

  constructor(id: string, direction: Direction) {
    this.id = id;
    this.direction = direction;
  }

  /**
   * The kernel puts a channel's extended name in front of all of its attributes (`in_voltage0_vccint_raw`), and says
   * nowhere that it did: it is what at least two attributes, and all of them, start with.
   */
  detectExtendedName(): void {
    const names = [...this.attributes.keys()];
    const [first = '', ...others] = names;
    if (others.length === 0) return;
    let length = first.lastIndexOf('_') + 1;
    while (length > 0 && !names.every((name) => name.startsWith(first.slice(0, length)) && name.length > length)) {
      length = length === 1 ? 0 : first.lastIndexOf('_', length - 2) + 1;
    }
    if (length <= 1) return;
    this.name = first.slice(0, length - 1);
    this.attributes = new Map(Array.from(this.attributes, ([name, file]) => [name.slice(length), file]));
  }
}

/** The channels of one device, by direction and id. */
export class ChannelSet {
  readonly #channels = new Map<string, Channel>();

  get all(): Channel[] {
    return [...this.#channels.values()];
  }

  get(direction: Direction, id: string): Channel | undefined {
    return this.#channels.get(`${direction} ${id}`);
  }

  ensure(direction: Direction, id: string): Channel {
    const existing = this.get(direction, id);
    if (existing !== undefined) return existing;
    const created = new Channel(id, direction);
    this.#channels.set(`${direction} ${id}`, created);
    return created;
  }

  add({ direction, channelId, attribute }: ChannelFile, file: string): void {
    this.ensure(direction, channelId).attributes.set(attribute, file);
  }
}

/** Gives an attribute shared by a channel type (`in_voltage_scale`) to its channels; false if it has none. */
export function placeShared(file: string, channels: ChannelSet): boolean {
  const parsed = unnumberedChannelFile(file);
  if (parsed === undefined) return false;
  const ofType = channels.all.flatMap((channel) => {
    if (channel.direction !== parsed.direction) return [];
    const match = sharedTypeMatch(parsed.channelId, channel.id);
    return match === undefined ? [] : [{ channel, match }];
  });
  const exact = ofType.filter(({ match }) => match === 'exact');
  const candidates = (exact.length > 0 ? exact : ofType).map(({ channel }) => channel);
  const named = candidates.filter(({ name }) => name !== undefined && parsed.attribute.startsWith(`${name}_`));
  for (const channel of named) addShared(channel, parsed.attribute.slice((channel.name ?? '').length + 1), file);
  if (named.length === 0) for (const channel of candidates) addShared(channel, parsed.attribute, file);
  return candidates.length > 0;
}

/** A channel's own file wins over a shared one of the same short name. */
function addShared(channel: Channel, attribute: string, file: string): void {
  if (!channel.attributes.has(attribute)) channel.attributes.set(attribute, file);
}

/** Takes `in_temp_input` for attribute `input` of the only, unnumbered channel `temp`. */
export function placeAlone(file: string, channels: ChannelSet): boolean {
  const parsed = unnumberedChannelFile(file);
  if (parsed !== undefined) channels.add(parsed, file);
  return parsed !== undefined;
}

/** Gives event files to the channel with the longest matching id; returns those that no channel claims. */
export function placeEvents(files: readonly string[], channels: ChannelSet): string[] {
  return files.filter((file) => {
    const owner = channels.all
      .filter(({ direction, id }) => file.startsWith(`${direction}_${id}_`))
      .reduce<Channel | undefined>((best, channel) => {
        return best === undefined || channel.id.length > best.id.length ? channel : best;
      }, undefined);
    owner?.eventAttributes.set(file.slice(owner.direction.length + owner.id.length + 2), file);
    return owner === undefined;
  });
}

const NATURAL_ORDER = new Intl.Collator('en', { numeric: true });

/** The order of channels without scan index is free: inputs first, numbers by value. */
export function compareChannels(a: Channel, b: Channel): number {
  return (
    compareByteOrder(a.direction, b.direction) || NATURAL_ORDER.compare(a.id, b.id) || compareByteOrder(a.id, b.id)
  );
}
