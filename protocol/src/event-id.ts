import type { ChannelDescription } from './model.js';

/** enum iio_chan_type, include/uapi/linux/iio/types.h, by the names that sysfs has for them. */
const CHANNEL_TYPES = (
  'voltage current power accel anglvel magn illuminance intensity proximity temp incli rot angl timestamp capacitance ' +
  'altvoltage cct pressure humidityrelative activity steps energy distance velocity concentration resistance ph uvindex ' +
  'electricalconductivity count index gravity positionrelative phase massconcentration deltaangl deltavelocity ' +
  'colortemp chromaticity attention altcurrent'
).split(' ');

/** enum iio_modifier from IIO_MOD_X = 1 on, same header. */
const MODIFIERS = (
  'x y z x&y x&z y&z x&y&z x|y x|z y|z x|y|z both ir sqrt(x^2+y^2) x^2+y^2+z^2 clear red green blue quaternion ambient ' +
  'object from_north_magnetic from_north_true from_north_magnetic_tilt_comp from_north_true_tilt_comp running jogging ' +
  'walking still sqrt(x^2+y^2+z^2) i q co2 voc uv duv pm1 pm2p5 pm4 pm10 ethanol h2 o2 linear_x linear_y linear_z pitch ' +
  'yaw roll uva uvb'
).split(' ');

/** enum iio_event_type and iio_event_direction, same header. */
const EVENT_TYPES = 'thresh mag roc thresh_adaptive mag_adaptive change mag_referenced gesture fault'.split(' ');
const EVENT_DIRECTIONS = 'either rising falling none singletap doubletap fault_openwire'.split(' ');

export interface EventKind {
  /** `thresh` */
  readonly type: string;
  /** `rising` */
  readonly direction: string;
}

/** From the name of an event attribute that switches it on: `thresh_rising_en`. */
export function eventKind(attribute: string): EventKind | undefined {
  const [, type, direction] = /^(.+)_([a-z]+)_en$/.exec(attribute) ?? [];
  const known = EVENT_TYPES.includes(type ?? '') && EVENT_DIRECTIONS.includes(direction ?? '');
  return known && type !== undefined && direction !== undefined ? { type, direction } : undefined;
}

/**
 * The id that the kernel gives an event: channel in bits 0…15, second channel of a differential one in 16…31, channel type in
 * 32…39, modifier in 40…47, direction in 48…54, differential flag in bit 55, event type in 56…63
 * (include/linux/iio/events.h, IIO_EVENT_CODE). What this table does not know counts as 0.
 */
export function eventId(channel: Pick<ChannelDescription, 'id'>, { type, direction }: EventKind): bigint {
  const [, channelType = '', first = '0', second, modifier = ''] =
    /^([a-z]+?)(\d*)(?:-[a-z]+(\d+))?(?:_(.+))?$/.exec(channel.id) ?? [];
  const field = (list: readonly string[], name: string, base: number) => BigInt(Math.max(0, list.indexOf(name) + base));
  return (
    BigInt.asUintN(16, BigInt(first)) |
    (BigInt.asUintN(16, BigInt(second ?? '0')) << 16n) |
    (field(CHANNEL_TYPES, channelType, 0) << 32n) |
    (field(MODIFIERS, modifier, 1) << 40n) |
    (field(EVENT_DIRECTIONS, direction, 0) << 48n) |
    (second === undefined ? 0n : 1n << 55n) |
    (field(EVENT_TYPES, type, 0) << 56n)
  );
}

/** What an event's id says. Names are sysfs's; what this table does not know is a number, as text. */
export interface EventIdFields extends EventKind {
  /** `voltage` */
  readonly channelType: string;
  /** `x`, of `accel_x`. */
  readonly modifier: string | undefined;
  /** `voltage1` has 1. Negative where the channel has no number. */
  readonly channel: number;
  /** The other one of a differential channel. */
  readonly channel2: number | undefined;
}

/** The inverse of {@link eventId}. */
export function decodeEventId(id: bigint): EventIdFields {
  const field = (shift: number, bits: number) => Number((id >> BigInt(shift)) & ((1n << BigInt(bits)) - 1n));
  const name = (list: readonly string[], value: number) => list[value] ?? String(value);
  const modifier = field(40, 8);
  const differential = field(55, 1) === 1;
  return {
    type: name(EVENT_TYPES, field(56, 8)),
    direction: name(EVENT_DIRECTIONS, field(48, 7)),
    channelType: name(CHANNEL_TYPES, field(32, 8)),
    modifier: modifier === 0 ? undefined : name(MODIFIERS, modifier - 1),
    channel: (field(0, 16) << 16) >> 16,
    channel2: differential ? (field(16, 16) << 16) >> 16 : undefined,
  };
}
