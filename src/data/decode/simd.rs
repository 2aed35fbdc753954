//! Compiles functions for AVX2, and uses that version if the processor has AVX2.

/// Defines a function twice: for all processors, and for processors with AVX2.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn here($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn with_avx2($($arg: $type),*) $(-> $out)? {
                here($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "the line above checks that the processor has AVX2")]
                // SAFETY: the processor has AVX2.
                return unsafe { with_avx2($($arg),*) };
            }
            here($($arg),*)
        }
    };
}

pub(in crate::data) use vectorized;
