import { IioError, MAX_CONTEXT_XML_LENGTH } from '@iio-bridge/protocol';
import { decompress } from 'fzstd';

/** As it comes over the wire: the text itself, or one zstd frame of it. Bytes. */
export const MAX_DOCUMENT_BYTES = MAX_CONTEXT_XML_LENGTH;

/**
 * The text of a context document: XML as it is, or as a zstd frame. Never takes more memory than the largest document
 * that is accepted, whatever the frame says of itself.
 * @throws IioError `BAD_XML`
 */
export function decodeDocument(payload: Uint8Array, uri: string): string {
  const decoder = new TextDecoder();
  if (decoder.decode(payload.subarray(0, 5)) === '<?xml') {
    const end = payload.indexOf(0);
    return decoder.decode(end < 0 ? payload : payload.subarray(0, end));
  }
  try {
    const size = contentSize(payload) ?? MAX_DOCUMENT_BYTES;
    if (size > MAX_DOCUMENT_BYTES) {
      throw new RangeError(`it would be ${size} bytes long (limit ${MAX_DOCUMENT_BYTES})`);
    }
    return decoder.decode(decompress(payload, new Uint8Array(size)));
  } catch (error) {
    const message = `${uri}: the description is neither XML nor a zstd frame of it: ${String(error)}`;
    throw new IioError('BAD_XML', message, { cause: error });
  }
}

/** The frame content size of a zstd frame, if its header has one (RFC 8878, 3.1.1.1). */
function contentSize(frame: Uint8Array): number | undefined {
  const descriptor = frame[4] ?? 0;
  const sizeFlag = descriptor >> 6;
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const at = 5 + (singleSegment ? 0 : 1) + dictionaryBytes;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  switch (sizeFlag) {
    case 0:
      return singleSegment ? view.getUint8(at) : undefined;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return Number(view.getBigUint64(at, true));
  }
}
