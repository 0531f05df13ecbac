// microphone.js: the phone's microphone, and in one line what is wrong with it.

const WANTED = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
const WRONG = {
  NotAllowedError: "The microphone was refused. Allow it for this page beside the address, then tap Listen.",
  NotFoundError: "There is no microphone. Connect one, then tap Listen.",
  NotReadableError: "Another app holds the microphone. Close it, then tap Listen.",
  AbortError: "The microphone did not start. Tap Listen again.",
};

export class Microphone {
  /** `gone` is called with a line when the microphone goes away by itself, and with "" when it is back. */
  constructor(gone) {
    this.gone = gone;
  }

  /** Fetches what the sound goes through, which may be long before a tap: the network can be gone by then. */
  async prepare() {
    this.context ??= new AudioContext();
    this.loaded ??= this.context.audioWorklet.addModule("worklet.js");
    try {
      await this.loaded;
    } catch {
      this.context?.close(); // it would remember the failure
      this.context = this.loaded = undefined;
      throw new Error("A part of the page did not come. Tap Listen again where the computer is in reach.");
    }
  }

  /** Starts, within a tap; returns the port that gives the sound, its rate, and how the phone changes it. */
  async start() {
    if (!navigator.mediaDevices) throw new Error("Browsers give no microphone to pages without HTTPS. Open the address in the terminal.");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: WANTED });
    } catch (error) {
      throw new Error(WRONG[error.name] ?? `The microphone does not start (${error.name}).`);
    }
    await this.prepare();
    await this.context.resume();
    const [track] = this.stream.getAudioTracks();
    track.onended = () => this.gone("The microphone went away. Tap Listen to start again.");
    track.onmute = () => this.gone("Another app took the microphone for now.");
    track.onunmute = () => this.gone("");
    this.source = this.context.createMediaStreamSource(this.stream);
    this.node = new AudioWorkletNode(this.context, "microphone", { channelCount: 1, channelCountMode: "explicit" });
    const { port1, port2 } = new MessageChannel();
    this.node.port.postMessage(port1, [port1]);
    this.source.connect(this.node).connect(this.context.destination); // silence; what leads nowhere may not run
    const settings = track.getSettings();
    const changed = ["echoCancellation", "noiseSuppression", "autoGainControl"].filter((name) => settings[name]);
    return { port: port2, rate: this.context.sampleRate, changed };
  }

  /** Lets go of the microphone. */
  stop() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = track.onmute = null;
      track.stop();
    }
    this.source?.disconnect();
    this.node?.disconnect();
    this.stream = this.source = this.node = undefined;
    this.context?.suspend();
  }
}
