import type { Machine } from '../../lab/machine.js';
import type { ModuleSpec } from '../../lab/modules.js';

export const DUMMY = 'lab-dummy';
/** A timer that can drive it. */
export const TIMER = 'lab-timer';

const CONFIG = '/sys/kernel/config/iio';

/** The kernel's sample driver, and what makes its events. It has a FIFO, thus takes no DMABUFs. */
export const DUMMY_MODULES: readonly ModuleSpec[] = [{ name: 'iio_dummy_evgen' }, { name: 'iio_dummy' }];

/** What drivers/iio/dummy/iio_simple_dummy_buffer.c puts into every sample set, before the time. */
export const DUMMY_SET = { voltage0: 7, 'voltage1-voltage2': -33, 'voltage3-voltage4': -2, accel_x: 344 } as const;

/** With the modules loaded: a device of them, and a timer; the device's directory in sysfs. */
export async function createDummy(machine: Machine, name: string = DUMMY): Promise<string> {
  const path = `${CONFIG}/devices/dummy/${name}`;
  const directory = await machine.output(
    `mkdir ${path} && dirname $(grep -lx ${name} /sys/bus/iio/devices/iio:device*/name)`,
  );
  return directory.trim();
}

export async function removeDummy(machine: Machine, name: string = DUMMY): Promise<void> {
  await machine.output(`rmdir ${CONFIG}/devices/dummy/${name}`);
}

export async function createTimer(machine: Machine): Promise<void> {
  await machine.output(`mkdir ${CONFIG}/triggers/hrtimer/${TIMER}`);
}

/** Whatever is left of them, and the modules. */
export async function removeAllDummies(machine: Machine): Promise<void> {
  await machine.output(
    `for left in ${CONFIG}/devices/dummy/* ${CONFIG}/triggers/hrtimer/*; do [ ! -d $left ] || rmdir $left; done
    rmmod iio_dummy iio_dummy_evgen`,
  );
}
