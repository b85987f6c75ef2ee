import { IioError } from '@iio-bridge/protocol';

/** A client wants more than one of the configured limits grants: it gets the errno, and the log a line. */
export class LimitError extends IioError {}
