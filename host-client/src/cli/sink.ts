import { open } from 'node:fs/promises';
import { onFile } from './files.js';
import { print } from './output.js';

/** Where samples go. Owns the file, if it is one. */
export interface Sink extends AsyncDisposable {
  /** Resolves when the bytes may be overwritten: to false if nobody wants more. */
  write(bytes: Uint8Array): Promise<boolean>;
}

export async function fileSink(path: string): Promise<Sink> {
  const file = await onFile(`create ${path}`, () => open(path, 'w'));
  return {
    write: (bytes) =>
      onFile(`write ${path}`, async () => {
        for (let at = 0; at < bytes.length; ) {
          at += (await file.write(bytes, at)).bytesWritten;
        }
        return true;
      }),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

export function standardOutput(): Sink {
  return { write: print, [Symbol.asyncDispose]: () => Promise.resolve() };
}
