/** The part of WebUSB (https://wicg.github.io/webusb/) that this client uses. */
export interface WebUsbEndpoint {
  readonly endpointNumber: number;
  readonly direction: 'in' | 'out';
  readonly type: string;
  readonly packetSize: number;
}

export interface WebUsbInterface {
  readonly interfaceNumber: number;
  readonly alternates: readonly {
    readonly interfaceName?: string | null | undefined;
    readonly endpoints: readonly WebUsbEndpoint[];
  }[];
}

export interface WebUsbTransferResult {
  readonly status?: string | undefined;
}

export interface WebUsbInResult extends WebUsbTransferResult {
  readonly data?: DataView | undefined;
}

export interface WebUsbOutResult extends WebUsbTransferResult {
  readonly bytesWritten: number;
}

export interface WebUsbDevice {
  readonly opened: boolean;
  readonly vendorId: number;
  readonly productId: number;
  readonly manufacturerName?: string | null | undefined;
  readonly productName?: string | null | undefined;
  readonly serialNumber?: string | null | undefined;
  readonly usbVersionMajor: number;
  readonly usbVersionMinor: number;
  readonly configuration?: { readonly interfaces: readonly WebUsbInterface[] } | null | undefined;
  open(): Promise<void>;
  close(): Promise<void>;
  selectConfiguration(configurationValue: number): Promise<void>;
  claimInterface(interfaceNumber: number): Promise<void>;
  releaseInterface(interfaceNumber: number): Promise<void>;
  controlTransferOut(setup: {
    readonly requestType: 'vendor';
    readonly recipient: 'interface';
    readonly request: number;
    readonly value: number;
    readonly index: number;
  }): Promise<WebUsbOutResult>;
  transferIn(endpointNumber: number, length: number): Promise<WebUsbInResult>;
  transferOut(endpointNumber: number, data: Uint8Array<ArrayBuffer>): Promise<WebUsbOutResult>;
}

/** `navigator.usb`, or `webusb` of npm `usb`. */
export interface WebUsb {
  getDevices(): Promise<readonly WebUsbDevice[]>;
}
