import type { Machine } from '../lab/machine.js';

/** The lab's simulated converter with four channels of 16 bits. */
export const ADC_NAME = 'iio-sim-adc';

/** A simulated converter, ready for a stream. */
export interface Converter {
  readonly name: string;
  /** Its place among the devices of the context. */
  readonly index: number;
  readonly channelMask: number;
}

const CONVERTERS = {
  /** Sets of 8 bytes, which are their own number. */
  adc: { name: ADC_NAME, channelMask: 0b1111 },
  /** The 32-bit channel and the timestamp: sets of 16 bytes, which go evenly into blocks. */
  timestamped: { name: 'iio-sim-mixed', channelMask: 0b10100 },
  dac: { name: 'iio-sim-dac', channelMask: 0b1111 },
} as const;

/**
 * The converters as after loading: a stream through read() must not begin where an earlier one has left the kernel's ring
 * of two blocks. Sparse: making and checking samples costs next to nothing.
 */
export async function resetConverters(machine: Machine): Promise<void> {
  await machine.run(['rmmod', 'iio_sim']);
  await machine.output(['insmod', machine.modules.iio_sim, 'sparse=1']);
}

/**
 * Sets up a converter for a stream of the counter signal.
 * @param rate sample sets/s; as fast as blocks come, if absent
 */
export async function prepareConverter(
  machine: Machine,
  kind: keyof typeof CONVERTERS,
  rate?: number,
): Promise<Converter> {
  const converter = CONVERTERS[kind];
  const clock = rate === undefined ? 'echo 1 >$folder/free_running' : `echo ${rate} >$folder/sampling_frequency`;
  const index = await machine.output(
    `index=0
    for folder in $(ls -vd /sys/bus/iio/devices/iio:device*); do
      if [ "$(cat $folder/name)" = ${converter.name} ]; then
        echo counter >$folder/test_signal && ${clock} && echo $index
        exit
      fi
      index=$((index + 1))
    done
    exit 1`,
  );
  return { ...converter, index: Number(index) };
}

/** What the simulated DAC has played since it was loaded. */
export async function playedByDac(machine: Machine): Promise<{ readonly bytes: number; readonly errors: number }> {
  const stats = await machine.output('cat /sys/kernel/debug/iio_sim/dac/stats');
  const count = (name: string): number => Number(new RegExp(`^${name} (\\d+)`, 'm').exec(stats)?.[1] ?? Number.NaN);
  return { bytes: count('bytes'), errors: count('pattern_errors') };
}
