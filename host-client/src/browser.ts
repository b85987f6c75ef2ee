import { type ContextOptions, Context as ContextType } from './core/context.js';
import type { WebUsb, WebUsbDevice } from './webusb/webusb-api.js';
import { WebUsbTransport } from './webusb/webusb-transport.js';

export * from './core/exports.js';
export type { WebUsb, WebUsbDevice } from './webusb/webusb-api.js';
export { WebUsbTransport } from './webusb/webusb-transport.js';

/**
 * Opens the context on a USB device that the user has chosen in the browser's dialogue:
 * `await navigator.usb.requestDevice({ filters: [{ vendorId: 0x0456 }] })`.
 * @param usb `navigator.usb`, to find the device again with `reconnect`
 * @throws IioError `NO_CONTEXT`, `EBUSY`, `BAD_XML`, `ETIMEDOUT`, `DISCONNECTED`, `ECANCELED`
 */
async function open(device: WebUsbDevice, options: ContextOptions = {}, usb?: WebUsb): Promise<ContextType> {
  return await ContextType.connect(await WebUsbTransport.open(device, usb), options);
}

/** An IIO context; see {@link Context.open}. */
// An interface, because the reference shows the members of one, and none of an alias.
export interface Context extends ContextType {}
/** `connect` takes a transport of your own; `fromXml` a document. */
export const Context = { open, connect: ContextType.connect, fromXml: ContextType.fromXml } as const;
