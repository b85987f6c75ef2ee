import type { DeviceDescription } from '@iio-bridge/protocol';
import type { Backend } from '../iio/backend.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { Config } from './config.js';
import { patternOf } from './glob.js';

/** The devices whose overflow counters are known without being configured: those of the project's lab. */
const KNOWN: Config['loss']['counters'] = [{ device: 'iio-sim-*', attribute: 'lost' }];

/** Which devices have an attribute that counts the sample sets that they have lost. */
export class LossCounters {
  readonly #counters: readonly { readonly device: RegExp; readonly attribute: string }[];

  /** Those of the configuration come first. */
  constructor(configured: Config['loss']['counters']) {
    this.#counters = [...configured, ...KNOWN].map(({ device, attribute }) => ({
      device: patternOf(device),
      attribute,
    }));
  }

  /**
   * The file of the device's overflow counter, which the caller closes; undefined where it has none that is known.
   *
   * @throws {IioError} the errno of opening it
   */
  async open(backend: Backend, deviceIndex: number, device: DeviceDescription): Promise<FileDescriptor | undefined> {
    const names = [device.id, ...(device.name === undefined ? [] : [device.name])];
    for (const counter of this.#counters.filter((candidate) => names.some((name) => candidate.device.test(name)))) {
      const attribute = device.attributes.findIndex(({ name }) => name === counter.attribute);
      if (attribute >= 0) {
        return await backend.openAttribute?.({ kind: 'device', device: deviceIndex, attribute });
      }
    }
    return undefined;
  }
}
