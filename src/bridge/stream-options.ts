import { IioError, RING_POLICIES, type RingPolicy } from '@iio-bridge/protocol';
import { z } from 'zod';
import type { RingSize } from './input-capture.js';

/** How a buffer that is opened streams. */
export interface StreamSettings {
  /** Answers to blocks carry a record. */
  readonly metadata: boolean;
  readonly ring: RingSize | undefined;
  readonly policy: RingPolicy;
  /** Join those who have the buffer open. */
  readonly share: boolean;
}

const ringSchema = z.union(
  [
    z.strictObject({ ms: z.number().positive().max(3_600_000) }),
    z.strictObject({ bytes: z.number().int().positive().max(Number.MAX_SAFE_INTEGER) }),
  ],
  { error: 'ring: {"ms": N} or {"bytes": N} is needed, with a positive number' },
);

/** The `stream` part of the configuration as far as it is about rings; requests have the same members. */
export const ringSettings = {
  ring: ringSchema.optional(),
  policy: z.enum(RING_POLICIES).optional(),
};

const requestSchema = z.strictObject({
  ...ringSettings,
  metadata: z.boolean().optional(),
  share: z.boolean().optional(),
});

/** Default: what the configuration says. */
interface Defaults {
  readonly ring?: RingSize | undefined;
  readonly policy?: RingPolicy | undefined;
}

export function defaultSettings({ ring, policy = 'drop-newest' }: Defaults): StreamSettings {
  return { metadata: false, ring, policy, share: false };
}

/**
 * What a client asks for with STREAM_OPTIONS: JSON in UTF-8 (docs/EXTENSIONS.md).
 *
 * @throws {IioError} `EINVAL`, saying what is wrong with it.
 */
export function parseStreamOptions(bytes: Uint8Array, defaults: Defaults): StreamSettings {
  let given: unknown;
  try {
    given = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new IioError('EINVAL', 'stream options: this is not JSON in UTF-8', { cause: error });
  }
  const parsed = requestSchema.safeParse(given);
  if (!parsed.success) {
    throw new IioError('EINVAL', `stream options: ${z.prettifyError(parsed.error).replaceAll(/\s+/g, ' ')}`);
  }
  const { metadata = false, share = false, ring, policy } = parsed.data;
  const settings = defaultSettings(defaults);
  return { metadata, share, ring: ring ?? settings.ring, policy: policy ?? settings.policy };
}
