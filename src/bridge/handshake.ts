import { BINARY_HANDSHAKE } from '@iio-bridge/protocol';

/** A client that takes over a link in binary mode may greet again, where a frame header is expected. */
export function isHandshake(bytes: Uint8Array): boolean {
  return bytes.every((byte, i) => byte === BINARY_HANDSHAKE[i]);
}
