// Engines.kt: two ways from int8 features to int8 results: the model compiled to C, and LiteRT with XNNPACK.
package earkit.listener

import android.content.Context
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

interface Engine : AutoCloseable {
    /** Runs the model on the features that are due in Ear. */
    fun run(): ByteArray
}

/** The same C as on a board: the same bits, no interpreter. */
class Compiled : Engine {
    override fun run(): ByteArray = Ear.run()

    override fun close() = Unit
}

/** The .tflite itself. Its kernels round once where a board's round twice: results may differ by some steps. */
class LiteRt(context: Context) : Engine {
    private val interpreter = Interpreter(
        context.assets.openFd(Model.FILE).use { file ->
            FileInputStream(file.fileDescriptor).use {
                it.channel.map(FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
            }
        },
        Interpreter.Options().setNumThreads(1), // so small a model gains nothing from more
    )
    private val input = direct(interpreter.getInputTensor(0).numBytes())
    private val output = direct(interpreter.getOutputTensor(0).numBytes())

    override fun run(): ByteArray {
        input.rewind()
        input.put(Ear.features())
        input.rewind()
        output.rewind()
        interpreter.run(input, output)
        output.rewind()
        return ByteArray(output.capacity()).also { output.get(it) }
    }

    override fun close() = interpreter.close()

    private fun direct(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
}
