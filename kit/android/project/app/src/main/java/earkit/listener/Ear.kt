// Ear.kt: libear.so: samples in, features, results and events out, bit for bit as on a board.
package earkit.listener

object Ear {
    const val ONE = 1 shl 24 // a probability of 1

    init {
        System.loadLibrary("ear")
    }

    /** Begins anew; false when so many results of so many labels are not averaged. */
    external fun begin(threshold: Double): Boolean

    /** Takes samples until a result is due; returns how many were taken. */
    external fun take(samples: ShortArray, from: Int, count: Int): Int

    external fun due(): Boolean

    /** The int8 features that are due: read them before `run`, which uses them up. */
    external fun features(): ByteArray

    /** The int8 output of the compiled model. */
    external fun run(): ByteArray

    /** Takes an int8 output; returns changes (1: one ended, 2: one began) and label, first, last, share of each. */
    external fun result(output: ByteArray): IntArray

    /** The mean of each label's probability in the last results, in units of 1 / ONE. */
    external fun means(): IntArray
}
