// worklet.js: takes what the microphone gives, and passes it on to the worker in blocks.

const BLOCK = 1024; // samples in a message
const MOST = 2; // seconds on their way; what comes then is lost, and said to be

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(BLOCK);
    this.held = this.lost = this.sent = this.taken = 0;
    this.port.onmessage = ({ data }) => {
      this.worker = data;
      this.worker.onmessage = (message) => (this.taken = message.data);
    };
  }

  process([[channel]]) {
    if (!channel || !this.worker) return true;
    if (this.sent - this.taken > MOST * sampleRate) {
      this.lost += channel.length;
      return true;
    }
    this.block.set(channel, this.held);
    this.held += channel.length;
    if (this.held === BLOCK) {
      this.sent += BLOCK;
      this.worker.postMessage({ block: this.block, lost: this.lost }, [this.block.buffer]);
      this.block = new Float32Array(BLOCK);
      this.held = this.lost = 0;
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
