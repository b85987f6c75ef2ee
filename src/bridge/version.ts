/** Served as the context attribute `iio-bridge`, by which our client knows what it may use. */
export const VERSION = '0.1.0';
