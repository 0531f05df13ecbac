// swift-tools-version: 5.9
// Package.swift: the listener for @TITLE@, written by earkit: our C up to the features, Core ML for the model.
import PackageDescription

let package = Package(
    name: "EarListener",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "EarListener", targets: ["EarListener"])],
    targets: [
        .target(
            name: "CEar",
            cSettings: [.define("EAR_MICROPHONE", to: "1"), .headerSearchPath("include")]
        ),
        .target(name: "EarListener", dependencies: ["CEar"]),
    ]
)
