import type { ChannelDescription } from '@iio-bridge/protocol';

/** enum iio_chan_type, include/uapi/linux/iio/types.h, by the names that sysfs has for them. */
const CHANNEL_TYPES = (
  'voltage current power accel anglvel magn illuminance intensity proximity temp incli rot angl timestamp capacitance ' +
  'altvoltage cct pressure humidityrelative activity steps energy distance velocity concentration resistance ph uvindex ' +
  'electricalconductivity count index gravity positionrelative phase massconcentration deltaangl deltavelocity ' +
  'colortemp chromaticity'
).split(' ');

/** enum iio_modifier from IIO_MOD_X = 1 on, same header. */
const MODIFIERS = (
  'x y z x&y x&z y&z x&y&z x|y x|z y|z x|y|z both ir sqrt(x^2+y^2) x^2+y^2+z^2 clear red green blue quaternion ambient ' +
  'object from_north_magnetic from_north_true from_north_magnetic_tilt_comp from_north_true_tilt_comp running jogging ' +
  'walking still sqrt(x^2+y^2+z^2) i q co2 voc uv duv pm1 pm2p5 pm4 pm10 ethanol h2 o2 linear_x linear_y linear_z pitch ' +
  'yaw roll uva uvb'
).split(' ');

/** enum iio_event_type and iio_event_direction, same header. */
const EVENT_TYPES = ['thresh', 'mag', 'roc', 'thresh_adaptive', 'mag_adaptive', 'change', 'mag_referenced', 'gesture'];
const EVENT_DIRECTIONS = ['either', 'rising', 'falling', 'none', 'singletap', 'doubletap'];

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
