//! Loops over bytes, in the vector instructions that the processor has.

/// Defines a function that is compiled twice, once for AVX2, and called as the processor is.
macro_rules! vectorized {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        fn $name($($arg: $type),*) {
            #[inline(always)]
            fn here($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn with_avx2($($arg: $type),*) {
                here($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "the processor was just asked")]
                // SAFETY: it has AVX2.
                return unsafe { with_avx2($($arg),*) };
            }
            here($($arg),*);
        }
    };
}

pub(super) use vectorized;
