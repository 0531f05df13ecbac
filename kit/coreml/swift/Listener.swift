// Listener.swift: microphone -> features (our C) -> @TITLE@ (Core ML) -> probabilities and events (our C).
import AVFoundation
import CEar
import CoreML

/// A sound that was recognised. Times are in seconds since listening began; `end` is nil while it lasts.
public struct SoundEvent: Sendable {
    public let label: String
    public let start: Double
    public let end: Double?
    public let probability: Double
}

public enum ListenerError: Error {
    case microphoneRefused
    case noMicrophone
    case modelDoesNotFit(String)
}

/// Listens with one model. Make one at a time: the C beneath it keeps its sound in static memory.
public final class Listener {
    public static let labels = [@LABELS@]
    private static let inputScale: Float = @INPUT_SCALE@
    private static let inputZero: Float = @INPUT_ZERO@
    private static let outputScale: Float = @OUTPUT_SCALE@
    private static let outputZero = @OUTPUT_ZERO@
    private static let inputShape = [@INPUT_SHAPE@]

    /// Called on a queue of its own with the mean probability of each label and with what began or ended.
    public var heard: (([Double], [SoundEvent]) -> Void)?
    public var failed: ((Error) -> Void)?

    private let model: MLModel
    private let engine = AVAudioEngine()
    private let queue = DispatchQueue(label: "earkit.listener")

    /// `compiled` is an .mlmodelc: Xcode makes one of the .mlpackage, and so does MLModel.compileModel(at:).
    public init(compiled: URL, threshold: Double = @THRESHOLD@) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = .cpuOnly  // float32, and too small to be worth the way to the GPU
        model = try MLModel(contentsOf: compiled, configuration: configuration)
        var rules = ear_rules
        rules.threshold = UInt32(threshold * Double(EAR_ONE))
        guard ear_listener_begin(&rules) else {
            throw ListenerError.modelDoesNotFit("so many results of so many labels are not averaged")
        }
    }

    /// Asks for the microphone if it was not asked for before, and listens until `stop`.
    public func start() async throws {
        guard await AVAudioApplication.requestRecordPermission() else { throw ListenerError.microphoneRefused }
        #if os(iOS)
        try AVAudioSession.sharedInstance().setCategory(.record, mode: .measurement)
        try AVAudioSession.sharedInstance().setActive(true)
        #endif
        let source = engine.inputNode.outputFormat(forBus: 0)
        guard source.sampleRate > 0,
              let wanted = AVAudioFormat(
                  commonFormat: .pcmFormatInt16, sampleRate: Double(EAR_FE_RATE), channels: 1, interleaved: true),
              let converter = AVAudioConverter(from: source, to: wanted)
        else { throw ListenerError.noMicrophone }
        engine.inputNode.installTap(onBus: 0, bufferSize: 1024, format: source) { [weak self] buffer, _ in
            guard let samples = Self.converted(buffer, by: converter, to: wanted) else { return }
            self?.queue.async { self?.take(samples) }
        }
        try engine.start()
    }

    public func stop() {
        engine.inputNode.removeTap(onBus: 0)
        engine.stop()
        queue.async { [self] in
            var last = ear_event_t()
            if ear_hear_end(&last) { heard?(Self.means(), [Self.event(last, ended: true)]) }
        }
    }

    private static func converted(
        _ buffer: AVAudioPCMBuffer, by converter: AVAudioConverter, to format: AVAudioFormat
    ) -> [Int16]? {
        let ratio = format.sampleRate / buffer.format.sampleRate
        let room = AVAudioFrameCount(Double(buffer.frameLength) * ratio) + 64
        guard let made = AVAudioPCMBuffer(pcmFormat: format, frameCapacity: room) else { return nil }
        var given = false
        let status = converter.convert(to: made, error: nil) { _, state in
            state.pointee = given ? .noDataNow : .haveData
            defer { given = true }
            return given ? nil : buffer
        }
        guard status != .error, let channel = made.int16ChannelData?[0] else { return nil }
        return Array(UnsafeBufferPointer(start: channel, count: Int(made.frameLength)))
    }

    private func take(_ samples: [Int16]) {
        var at = 0
        while at < samples.count {
            var due = false
            at += samples[at...].withUnsafeBufferPointer {
                Int(ear_listener_take($0.baseAddress, UInt32($0.count), &due))
            }
            if !due { continue }
            do { try result() } catch { failed?(error) }
        }
    }

    /// One run of the model: the features that our C has put into ear_input, as the real numbers they stand for.
    private func result() throws {
        let steps = UnsafeBufferPointer(start: ear_input, count: Int(EAR_INPUT_BYTES))
        let real = steps.map { (Float($0) - Self.inputZero) * Self.inputScale }
        let features = MLShapedArray<Float>(scalars: real, shape: Self.inputShape)
        let given = try MLDictionaryFeatureProvider(
            dictionary: ["features": MLFeatureValue(shapedArray: features)])
        let answer = try model.prediction(from: given)
        guard let scores = answer.featureValue(for: "scores")?.multiArrayValue,
              scores.count == Self.labels.count
        else { throw ListenerError.modelDoesNotFit("the model has no output `scores` of \(Self.labels.count)") }
        var output = MLShapedArray<Float>(converting: scores).scalars.map {
            Int8(clamping: Int(($0 / Self.outputScale).rounded()) + Self.outputZero)
        }
        var events = [ear_event_t(), ear_event_t()]
        let changes = ear_listener_result(&output, &events)
        var told: [SoundEvent] = []
        if changes & 1 != 0 { told.append(Self.event(events[0], ended: true)) }
        if changes & 2 != 0 { told.append(Self.event(events[Int(changes & 1)], ended: false)) }
        heard?(Self.means(), told)
    }

    private static func means() -> [Double] {
        labels.indices.map { Double(ear_hear_mean(UInt32($0))) / Double(EAR_ONE) }
    }

    private static func event(_ event: ear_event_t, ended: Bool) -> SoundEvent {
        let rate = Double(EAR_FE_RATE), half = Double(@HALF@)
        let whole = Double(@SAMPLES@), hop = Double(@HOP@)  // samples of the first result, and between results
        let first = Double(event.first)
        return SoundEvent(
            label: labels[Int(event.label)],
            start: first < whole + hop ? 0 : max(0, (first - half - hop) / rate),
            end: ended ? (Double(event.last) - half) / rate : nil,
            probability: Double(event.share) / Double(EAR_ONE))
    }
}
