import type { ContextDescription } from '@iio-bridge/protocol';

/** The files of one scan element in one buffer. */
export interface ScanElementPaths {
  readonly enable: string;
  readonly index: string;
  readonly type: string;
}

export interface LocalChannel {
  readonly attributePaths: readonly string[];
  readonly eventAttributePaths: readonly string[];
}

export interface LocalBuffer {
  readonly index: number;
  readonly directory: string;
  readonly enablePath: string;
  /** Capacity in sample sets. */
  readonly lengthPath: string;
  /** Sample sets that wake a reader. */
  readonly watermarkPath: string;
  readonly attributePaths: readonly string[];
  /** By position in the device's channel list. */
  readonly scanElements: ReadonlyMap<number, ScanElementPaths>;
}

/** Where the parts of a device live; each list has the positions of the list of the same name in its description. */
export interface LocalDevice {
  readonly id: string;
  readonly kind: 'iio' | 'hwmon';
  readonly directory: string;
  /** The node for buffers and events; the kernel creates it only for devices that have either. */
  readonly characterDevice: string | undefined;
  /** Present if the device can be triggered: reads and takes the *name* of a trigger. */
  readonly currentTriggerPath: string | undefined;
  readonly attributePaths: readonly string[];
  readonly debugAttributePaths: readonly string[];
  readonly eventAttributePaths: readonly string[];
  readonly channels: readonly LocalChannel[];
  readonly buffers: readonly LocalBuffer[];
}

/** An attribute by its place in the document: `sub` is a channel's position or a buffer's index. */
export type AttributeRef =
  | { readonly kind: 'device' | 'debug' | 'event'; readonly device: number; readonly attribute: number }
  | {
      readonly kind: 'channel' | 'channel-event' | 'buffer';
      readonly device: number;
      readonly sub: number;
      readonly attribute: number;
    };

/** The machine's context as it was when discovered: the document to serve, and the files behind it. Owns nothing. */
export class LocalContext {
  readonly description: ContextDescription;
  /** At the positions of `description.devices`. */
  readonly devices: readonly LocalDevice[];
  /** What discovery had to leave out, one sentence each, naming the file. */
  readonly warnings: readonly string[];

  constructor(description: ContextDescription, devices: readonly LocalDevice[], warnings: readonly string[] = []) {
    this.description = description;
    this.devices = devices;
    this.warnings = warnings;
  }

  /** The absolute path of an attribute's file, or `undefined` if the document has no such attribute. */
  attributePath(ref: AttributeRef): string | undefined {
    return this.#paths(ref)?.[ref.attribute];
  }

  #paths(ref: AttributeRef): readonly string[] | undefined {
    const device = this.devices[ref.device];
    switch (ref.kind) {
      case 'device':
        return device?.attributePaths;
      case 'debug':
        return device?.debugAttributePaths;
      case 'event':
        return device?.eventAttributePaths;
      case 'channel':
        return device?.channels[ref.sub]?.attributePaths;
      case 'channel-event':
        return device?.channels[ref.sub]?.eventAttributePaths;
      case 'buffer':
        return device?.buffers.find(({ index }) => index === ref.sub)?.attributePaths;
    }
  }
}
