// Drives the app's native library as Listener.kt does, on this machine: int16 sound on stdin, what it says on stdout.
#include <jni.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EAR(result, name) extern result Java_earkit_listener_Ear_##name
EAR(jboolean, begin)(JNIEnv *, jobject, jdouble);
EAR(jint, take)(JNIEnv *, jobject, jshortArray, jint, jint);
EAR(jboolean, due)(JNIEnv *, jobject);
EAR(jbyteArray, features)(JNIEnv *, jobject);
EAR(jbyteArray, run)(JNIEnv *, jobject);
EAR(jintArray, result)(JNIEnv *, jobject, jbyteArray);
EAR(jintArray, means)(JNIEnv *, jobject);

typedef struct {
    jsize count;
    size_t size;
    char data[];
} array_t;

static array_t *made(jsize count, size_t size) {
    array_t *array = calloc(1, sizeof *array + (size_t)count * size);
    array->count = count;
    array->size = size;
    return array;
}

static char *region(array_t *array, jsize start, jsize count, size_t size) {
    if (start < 0 || count < 0 || start > array->count - count || array->size != size) abort();
    return array->data + (size_t)start * size;
}

static jbyteArray new_bytes(JNIEnv *env, jsize count) { (void)env; return made(count, 1); }
static jintArray new_ints(JNIEnv *env, jsize count) { (void)env; return made(count, 4); }
static jboolean check(JNIEnv *env) { (void)env; return 0; }
static void get_bytes(JNIEnv *env, jbyteArray a, jsize start, jsize count, jbyte *to) {
    (void)env;
    memcpy(to, region(a, start, count, 1), (size_t)count);
}
static void get_shorts(JNIEnv *env, jshortArray a, jsize start, jsize count, jshort *to) {
    (void)env;
    memcpy(to, region(a, start, count, 2), (size_t)count * 2);
}
static void set_bytes(JNIEnv *env, jbyteArray a, jsize start, jsize count, const jbyte *from) {
    (void)env;
    memcpy(region(a, start, count, 1), from, (size_t)count);
}
static void set_ints(JNIEnv *env, jintArray a, jsize start, jsize count, const jint *from) {
    (void)env;
    memcpy(region(a, start, count, 4), from, (size_t)count * 4);
}

static void print(const char *what, array_t *array) {
    printf("%s", what);
    for (jsize i = 0; i < array->count; ++i)
        printf(" %d", array->size == 4 ? ((jint *)array->data)[i] : ((jbyte *)array->data)[i]);
    printf("\n");
    free(array);
}

int main(int count, char **arguments) {
    const struct functions table = {new_bytes, new_ints, get_bytes, get_shorts, set_bytes, set_ints, check};
    JNIEnv env = &table;
    const jsize block = count > 1 ? atoi(arguments[1]) : 320;
    array_t *sound = made(block, 2);
    if (!Java_earkit_listener_Ear_begin(&env, NULL, 0.6)) return 1;
    for (jsize had; (had = (jsize)fread(sound->data, 2, (size_t)block, stdin)) > 0;) {
        for (jsize at = 0; at < had;) {
            at += Java_earkit_listener_Ear_take(&env, NULL, sound, at, had - at);
            if (!Java_earkit_listener_Ear_due(&env, NULL)) continue;
            print("features", Java_earkit_listener_Ear_features(&env, NULL));
            array_t *output = Java_earkit_listener_Ear_run(&env, NULL);
            array_t *told = Java_earkit_listener_Ear_result(&env, NULL, output);
            print("output", output);
            print("result", told);
            print("means", Java_earkit_listener_Ear_means(&env, NULL));
        }
    }
    free(sound);
    return 0;
}
