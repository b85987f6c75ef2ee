import { IioError } from '@iio-bridge/protocol';
import type { Session } from './session.js';

/** Of a context that was opened from a document: there is nobody to ask. */
export function offlineSession(uri: string): Session {
  const refuse = (): Promise<never> =>
    Promise.reject(
      new IioError('OFFLINE', `${uri} is a description without a server: it has no values and no samples`),
    );
  return {
    protocol: 'none',
    lost: undefined,
    hasRegisters: true,
    readAttribute: refuse,
    writeAttribute: refuse,
    readTrigger: refuse,
    writeTrigger: refuse,
    readRegister: refuse,
    writeRegister: refuse,
    openCapture: refuse,
    openPlayback: refuse,
    openEvents: refuse,
    close: () => Promise.resolve(),
  };
}
