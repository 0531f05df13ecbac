// Listener.kt: the microphone's thread: AudioRecord at the model's rate, then Ear, then an engine.
package earkit.listener

import android.annotation.SuppressLint
import android.media.AudioFormat
import android.media.AudioRecord
import android.media.MediaRecorder
import kotlin.concurrent.thread

/** A sound that was recognised; times in seconds, `end` is null while it lasts. */
data class Event(val label: String, val start: Double, val end: Double?, val probability: Double)

/** What a result says: the mean probabilities, what began or ended, and what the model took on this phone. */
class Heard(val means: DoubleArray, val events: List<Event>, val milliseconds: Double)

class Listener(
    private val engine: Engine,
    private val heard: (Heard) -> Unit,
    private val failed: (String) -> Unit,
) {
    @Volatile private var running = true
    private val worker = thread(start = false, name = "ear") { listen() }

    fun start() = worker.start()

    /** Ends the thread, and waits for it. */
    fun stop() {
        running = false
        worker.join()
    }

    private fun listen() {
        val recorder = open()
        try {
            if (recorder == null || recorder.state != AudioRecord.STATE_INITIALIZED) {
                failed("no microphone at ${Model.RATE} Hz: another app may hold it")
            } else if (!Ear.begin(Model.THRESHOLD)) {
                failed("so many results of so many labels are not averaged")
            } else {
                recorder.startRecording()
                record(recorder)
            }
        } catch (error: IllegalStateException) {
            failed("the microphone stopped: ${error.message}")
        } finally {
            recorder?.release()
            engine.close()
        }
    }

    @SuppressLint("MissingPermission") // MainActivity asks before it starts this
    private fun open(): AudioRecord? {
        val form = AudioFormat.ENCODING_PCM_16BIT
        val least = AudioRecord.getMinBufferSize(Model.RATE, AudioFormat.CHANNEL_IN_MONO, form)
        if (least <= 0) return null
        return AudioRecord(
            MediaRecorder.AudioSource.VOICE_RECOGNITION, // without noise suppression and gain control
            Model.RATE,
            AudioFormat.CHANNEL_IN_MONO,
            form,
            maxOf(least, Model.RATE * 2), // a second: the model may be late, no sample is lost
        )
    }

    private fun record(recorder: AudioRecord) {
        val block = ShortArray(Model.RATE / 50)
        while (running) {
            val count = recorder.read(block, 0, block.size)
            if (count < 0) throw IllegalStateException("error $count")
            var at = 0
            while (at < count) {
                at += Ear.take(block, at, count - at)
                if (Ear.due()) result()
            }
        }
    }

    private fun result() {
        val start = System.nanoTime()
        val output = engine.run()
        val milliseconds = (System.nanoTime() - start) / 1e6
        val told = Ear.result(output)
        val events = (1 until told.size step 4).mapIndexed { i, at ->
            event(told, at, ended = i == 0 && told[0] and 1 != 0)
        }
        heard(Heard(DoubleArray(Model.LABELS.size) { Ear.means()[it].toDouble() / Ear.ONE }, events, milliseconds))
    }

    private fun event(told: IntArray, at: Int, ended: Boolean): Event {
        val half = (Model.SAMPLES - Model.HOP) / 2.0 // a result stands for the middle of its input
        val first = told[at + 1].toUInt().toDouble()
        val last = told[at + 2].toUInt().toDouble()
        val start = if (first < Model.SAMPLES + Model.HOP) 0.0 else first - half - Model.HOP
        return Event(
            Model.LABELS[told[at]],
            maxOf(0.0, start / Model.RATE),
            if (ended) (last - half) / Model.RATE else null,
            told[at + 3].toDouble() / Ear.ONE,
        )
    }
}
