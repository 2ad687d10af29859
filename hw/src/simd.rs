//! Which instructions of the processor a program may use after it asked. Bolide is built for the least processor of its
//! architecture; libraries ask at run time.

/// Name and whether this processor (and its kernel) has it. Empty on architectures that nothing here knows.
pub fn features() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    let found = vec![
        ("sse4.2", std::is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", std::is_x86_feature_detected!("pclmulqdq")),
        ("aes", std::is_x86_feature_detected!("aes")),
        ("sha", std::is_x86_feature_detected!("sha")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("bmi2", std::is_x86_feature_detected!("bmi2")),
        ("avxvnni", std::is_x86_feature_detected!("avxvnni")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = vec![
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("aes", std::arch::is_aarch64_feature_detected!("aes")),
        ("sha2", std::arch::is_aarch64_feature_detected!("sha2")),
        ("crc", std::arch::is_aarch64_feature_detected!("crc")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = Vec::new();
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_least_processor_has_what_its_architecture_promises() {
        let names: Vec<_> = super::features().into_iter().map(|(name, _)| name).collect();
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        // The kernel's own list names the same things.
        let Some(text) = crate::root::Root::machine().read("proc/cpuinfo") else { return };
        let flags = text.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
        let kernel: Vec<&str> = flags.split_whitespace().collect();
        if kernel.is_empty() {
            return;
        }
        for (name, here) in super::features().into_iter().filter(|(name, _)| !name.contains('.')) {
            let theirs = match name {
                "sha" => "sha_ni",
                "avxvnni" => "avx_vnni",
                other => other,
            };
            assert_eq!(here, kernel.contains(&theirs), "{name}");
        }
    }
}
