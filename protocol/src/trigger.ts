import type { DeviceDescription } from './model.js';

/** A device is a trigger if its id says so and it has a name but no channels. */
export function isTrigger({ id, name, channels }: DeviceDescription): boolean {
  return id.startsWith('trigger') && name !== undefined && channels.length === 0;
}
