import type { LabModule } from './build.js';
import type { Machine } from './machine.js';

/** A module of the lab by its name, with parameters. */
export interface ModuleSpec {
  readonly name: LabModule;
  readonly params?: Readonly<Record<string, string | number>>;
}

/** A SuperSpeed controller that takes scatter-gather, and the simulated converters. */
export const DEFAULT_MODULES: readonly ModuleSpec[] = [
  { name: 'dummy_hcd_sg', params: { is_super_speed: 1 } },
  { name: 'iio_sim' },
];

/**
 * Inserts modules in the order given; their devices exist when it returns.
 * @throws IioError `ECHILD` with insmod's words if it fails.
 */
export async function loadModules(machine: Machine, modules: readonly ModuleSpec[] = DEFAULT_MODULES): Promise<void> {
  for (const { name, params = {} } of modules) {
    await machine.output([
      'insmod',
      machine.modules[name],
      ...Object.entries(params).map(([key, value]) => `${key}=${value}`),
    ]);
  }
}

/**
 * Removes modules in the order given.
 * @throws IioError `ECHILD` with rmmod's words, e.g. while something holds a device of the module open.
 */
export async function unloadModules(machine: Machine, names: readonly LabModule[]): Promise<void> {
  for (const name of names) {
    await machine.output(['rmmod', name]);
  }
}
