{
  "targets": [
    {
      "target_name": "dataplane",
      "sources": [
        "src/addon.cc",
        "src/aio.cc",
        "src/block.cc",
        "src/block_reader.cc",
        "src/capture.cc",
        "src/data_plane.cc",
        "src/fence.cc",
        "src/in_endpoint.cc",
        "src/link.cc",
        "src/locked_memory.cc",
        "src/loss_counter.cc",
        "src/out_endpoint.cc",
        "src/payload.cc",
        "src/playback.cc",
        "src/reader.cc",
        "src/sample_io.cc",
        "src/sample_reader.cc",
        "src/socket_link.cc",
        "src/tcp_listener.cc",
        "src/usb_link.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS",
        # A worker that is being terminated throws nothing any more, and must not take the process with it.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-rtti", "-std=gnu++20", "-std=gnu++17"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions"]
    }
  ]
}
