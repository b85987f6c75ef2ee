import type { Direction } from '@iio-bridge/protocol';

/** What the name of a file in an IIO device's directory says about the channel it belongs to. */
export interface ChannelFile {
  readonly direction: Direction;
  /** `voltage0`, `accel_x`, `voltage0-voltage1`. */
  readonly channelId: string;
  /** The rest of the name: the attribute, with the channel's extended name in front if it has one. */
  readonly attribute: string;
}

/** iio_modifier_names in drivers/iio/industrialio-core.c, and the spellings of older kernels. */
const MODIFIERS = (
  'x y z x&y x&z y&z x&y&z x|y x|z y|z x|y|z sqrt(x^2+y^2) x^2+y^2+z^2 sqrt(x^2+y^2+z^2) both ir clear red green blue ' +
  'uv uva uvb duv quaternion quaternionaxis ambient object from_north_magnetic from_north_true ' +
  'from_north_magnetic_tilt_comp from_north_true_tilt_comp running jogging walking still i q co2 ethanol h2 o2 voc ' +
  'pm1 pm2p5 pm4 pm10 linear_x linear_y linear_z pitch yaw roll rms active reactive apparent'
).split(' ');

/** Channel types with an underscore of their own, which would otherwise be taken for the end of the channel's id. */
const COMPOUND_TYPES = ['delta_angl', 'delta_velocity'];

/** A name that can only be a channel's: its type is numbered or modified, or it is the timestamp. */
export function channelFile(name: string): ChannelFile | undefined {
  const parts = typedName(name);
  if (parts === undefined) return undefined;
  const { direction, type, rest } = parts;
  const modifier = longestModifier(rest);
  if (modifier !== undefined) {
    return { direction, channelId: `${type}_${modifier}`, attribute: rest.slice(modifier.length + 1) };
  }
  if (/\d$/.test(type) || (direction === 'in' && type === 'timestamp')) {
    return { direction, channelId: type, attribute: rest };
  }
  return undefined;
}

/** Any name of the form `in_<type>_<rest>`, taken for that of a channel without number and modifier. */
export function unnumberedChannelFile(name: string): ChannelFile | undefined {
  const parts = typedName(name);
  return parts && { direction: parts.direction, channelId: parts.type, attribute: parts.rest };
}

export type SharedMatch = 'exact' | 'differential';

/**
 * Whether an attribute that is shared by all channels of a type (`in_voltage_scale`: type `voltage`) belongs to a
 * channel. `differential`: the type names single-ended channels (`voltage`), the id a differential one
 * (`voltage0-voltage1`); drivers for chips with only differential inputs may mean that.
 */
export function sharedTypeMatch(type: string, channelId: string): SharedMatch | undefined {
  const [first = '', second] = type.split('-');
  if (second !== undefined) {
    const [idFirst = '', idSecond] = channelId.split('-');
    return idSecond !== undefined && numbered(idFirst, first) && numbered(idSecond, second) ? 'exact' : undefined;
  }
  if (!channelId.startsWith(type)) return undefined;
  const rest = channelId.slice(type.length);
  if (/^\d/.test(rest)) return rest.includes('-') ? 'differential' : 'exact';
  return rest.startsWith('_') && MODIFIERS.includes(rest.slice(1)) ? 'exact' : undefined;
}

/** The file names of one scan element: what is left of `in_voltage0_en` without `_en`, `_index`, `_type`. */
export function scanElementFile(name: string): { base: string; role: 'en' | 'index' | 'type' } | undefined {
  const [, base, role] = /^((?:in|out)_.+)_(en|index|type)$/.exec(name) ?? [];
  if (base === undefined || (role !== 'en' && role !== 'index' && role !== 'type')) return undefined;
  return { base, role };
}

/** hwmon: `temp1_input` is attribute `input` of channel `temp1`; `pwm1` is attribute `pwm1` of channel `pwm1`. */
export function hwmonChannelFile(name: string): ChannelFile | undefined {
  if (!/^(?:in|fan|pwm|temp|curr|power|energy|humidity|intrusion)(?:\d|_|$)/.test(name)) return undefined;
  const underscore = name.indexOf('_');
  if (underscore < 0) return { direction: 'in', channelId: name, attribute: name };
  return { direction: 'in', channelId: name.slice(0, underscore), attribute: name.slice(underscore + 1) };
}

function typedName(name: string): { direction: Direction; type: string; rest: string } | undefined {
  const direction = name.startsWith('in_') ? 'in' : name.startsWith('out_') ? 'out' : undefined;
  if (direction === undefined) return undefined;
  const body = name.slice(direction.length + 1);
  const compound = COMPOUND_TYPES.find((type) => body.startsWith(type));
  const end = body.indexOf('_', compound?.length ?? 0);
  if (end <= 0 || end === body.length - 1) return undefined;
  return { direction, type: body.slice(0, end), rest: body.slice(end + 1) };
}

function longestModifier(rest: string): string | undefined {
  return MODIFIERS.filter((modifier) => rest.startsWith(`${modifier}_`) && rest.length > modifier.length + 1).reduce<
    string | undefined
  >((longest, modifier) => (modifier.length > (longest?.length ?? 0) ? modifier : longest), undefined);
}

function numbered(text: string, type: string): boolean {
  return text.startsWith(type) && /^\d*$/.test(text.slice(type.length));
}
