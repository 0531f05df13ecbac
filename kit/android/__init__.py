"""Android: a bundle as an Android Studio project that listens, with two engines. Never built here."""
