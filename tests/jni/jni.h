// The part of the Java Native Interface that the exported app uses, in words of our own: to compile jni.c alone.
#ifndef JNI_H
#define JNI_H

#include <stdint.h>

#define JNIEXPORT __attribute__((visibility("default")))
#define JNICALL

typedef uint8_t jboolean;
typedef int8_t jbyte;
typedef int16_t jshort;
typedef int32_t jint;
typedef double jdouble;
typedef jint jsize;
typedef void *jobject;
typedef jobject jbyteArray, jshortArray, jintArray;

struct functions;
typedef const struct functions *JNIEnv;
struct functions { // the real table is longer: who links against this one brings it
    jbyteArray (*NewByteArray)(JNIEnv *, jsize);
    jintArray (*NewIntArray)(JNIEnv *, jsize);
    void (*GetByteArrayRegion)(JNIEnv *, jbyteArray, jsize, jsize, jbyte *);
    void (*GetShortArrayRegion)(JNIEnv *, jshortArray, jsize, jsize, jshort *);
    void (*SetByteArrayRegion)(JNIEnv *, jbyteArray, jsize, jsize, const jbyte *);
    void (*SetIntArrayRegion)(JNIEnv *, jintArray, jsize, jsize, const jint *);
    jboolean (*ExceptionCheck)(JNIEnv *);
};
#endif
