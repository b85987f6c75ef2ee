import { IioError } from '@iio-bridge/protocol';

/** Bytes in one record that ep0 delivers: struct usb_functionfs_event, include/uapi/linux/usb/functionfs.h. */
export const FFS_EVENT_BYTES = 12;

/** The eight bytes of a control request (USB 2.0 section 9.3), in the machine's own number form. */
export interface SetupPacket {
  /** Bit 7: 1 = device to host. Bits 6..5: 2 = vendor. Bits 4..0: 1 = interface. */
  readonly requestType: number;
  readonly request: number;
  readonly value: number;
  /** For a request to an interface: the function's own interface number, 0 here (the kernel translates it). */
  readonly index: number;
  /** Bytes of the data stage. */
  readonly length: number;
}

/**
 * - `bind`, `unbind`: the gadget got or lost its UDC.
 * - `enable`, `disable`: a host chose the configuration, or left it (unplugged, reset).
 * - `setup`: a control request that wants an answer.
 * - `unknown`: a type that kernels after 6.12 may add.
 */
export type FfsEvent =
  | { readonly type: 'bind' | 'unbind' | 'enable' | 'disable' | 'suspend' | 'resume' }
  | { readonly type: 'setup'; readonly setup: SetupPacket }
  | { readonly type: 'unknown'; readonly code: number };

/** In the order of enum usb_functionfs_event_type. */
const TYPES = ['bind', 'unbind', 'enable', 'disable', 'setup', 'suspend', 'resume'] as const;

/**
 * The records of one read(2) of ep0.
 *
 * @throws {IioError} `EPROTO` if the bytes are not a whole number of records.
 */
export function decodeFfsEvents(bytes: Uint8Array): FfsEvent[] {
  if (bytes.byteLength % FFS_EVENT_BYTES !== 0) {
    throw new IioError(
      'EPROTO',
      `${bytes.byteLength} bytes from ep0 are not a whole number of ${FFS_EVENT_BYTES}-byte events`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const events: FfsEvent[] = [];
  for (let offset = 0; offset < bytes.byteLength; offset += FFS_EVENT_BYTES) {
    const code = view.getUint8(offset + 8);
    const type = TYPES[code];
    if (type === undefined) {
      events.push({ type: 'unknown', code });
    } else if (type === 'setup') {
      events.push({ type, setup: decodeSetup(view, offset) });
    } else {
      events.push({ type });
    }
  }
  return events;
}

function decodeSetup(view: DataView, offset: number): SetupPacket {
  return {
    requestType: view.getUint8(offset),
    request: view.getUint8(offset + 1),
    value: view.getUint16(offset + 2, true),
    index: view.getUint16(offset + 4, true),
    length: view.getUint16(offset + 6, true),
  };
}
