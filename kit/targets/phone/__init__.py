"""Any phone by QR code: a page with the bundle's model as wasm, its server, and what the phone measures."""
