/**
 * What an IIO context looks like to both ends of the wire: the document that a server prints as XML and a client
 * reads back. Lists keep the order in which they stand in the document, because the binary protocol addresses devices,
 * channels and attributes by their position (protocol spec: devices sorted by id, channels by scan index then shift,
 * attributes by name, all in plain byte order).
 */

export type Direction = 'in' | 'out';

/** A scan element: where a channel stands in a sample set and how its value is stored. */
export interface ScanElement {
  /** The kernel's `_index` value (>= 0). Channels with the same index share storage. */
  readonly index: number;
  readonly format: ScanFormat;
  /** Written by 0.2x servers only. */
  readonly scale?: number;
}

/** `le:s12/16X2>>4`, as sysfs has it. */
export interface ScanFormat {
  readonly endianness: 'le' | 'be';
  readonly signed: boolean;
  /** No masking or sign extension is needed to read the value. */
  readonly fullyDefined: boolean;
  /** Significant bits. */
  readonly bits: number;
  /** Bits that one element occupies in memory: 8, 16, 32, 64… */
  readonly storageBits: number;
  /** Number of consecutive elements. */
  readonly repeat: number;
  /** Right shift to apply after byte swapping. */
  readonly shift: number;
}

/** An attribute as the wire sees it: its short name, and the file it lives in where that differs. */
export interface AttributeDescription {
  readonly name: string;
  readonly filename?: string;
  /** Present in documents written for emulation only. */
  readonly value?: string;
}

export interface ChannelDescription {
  readonly id: string;
  readonly direction: Direction;
  readonly name?: string;
  readonly label?: string;
  readonly scanElement?: ScanElement;
  readonly attributes: readonly AttributeDescription[];
  readonly eventAttributes: readonly AttributeDescription[];
}

export interface BufferDescription {
  readonly index: number;
  readonly direction: Direction;
  readonly attributes: readonly AttributeDescription[];
  /** Positions, in the device's channel list, of the channels that this buffer can carry. */
  readonly channels: readonly number[];
}

export interface DeviceDescription {
  readonly id: string;
  readonly name?: string;
  readonly label?: string;
  readonly channels: readonly ChannelDescription[];
  readonly buffers: readonly BufferDescription[];
  readonly attributes: readonly AttributeDescription[];
  readonly debugAttributes: readonly AttributeDescription[];
  readonly eventAttributes: readonly AttributeDescription[];
}

export interface ContextDescription {
  readonly name: string;
  readonly description: string;
  readonly version: { readonly major: number; readonly minor: number; readonly git: string };
  /** Context attributes in document order. */
  readonly attributes: ReadonlyMap<string, string>;
  readonly devices: readonly DeviceDescription[];
}
