//! A boot on which drivers are late, and a GPU that isn't one: the kernel knows no cameras when the service starts, CUDA's
//! driver fails at first, a build of a plan is killed for memory, and nodes of GPUs appear after the start.
//!
//! CUDA's driver and TensorRT are the stand-ins of the crate `engines`, put where the system's loader looks.

use super::*;

/// What the service's environment has for the stand-ins: cuInit fails twice, and a build with more than 100 MiB of
/// workspace is killed as the kernel kills what takes too much memory.
const DEMANDS: &str = "[Service]\nEnvironment=CUDA_STAND_IN_INIT_FAILS=2 WORDSIGHT_TEST_TENSORRT=killed_above=100 \
                       WORDSIGHT_TEST_TENSORRT_LOG=/var/lib/wordsight/tensorrt.log\n";
/// For as many starts, with RestartSec and a GPU that is waited for between them.
const THREE_STARTS: Duration = Duration::from_secs(300);
/// As the tests' TensorRT calls itself, with the student that sees colours.
const TENSORRT: &str = "TensorRT 10.3.0 (tf32)";

/// Compiles the stand-ins into a folder; `false`, and said, where TensorRT's headers lack.
pub fn compile_stand_ins(folder: &Path) -> bool {
    fs::create_dir(folder).unwrap();
    let engines = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines");
    stand_in::compile_into(folder, &engines);
    stand_in::compile_tensorrt_into(folder, &engines)
}

/// The next boot is one without cameras' drivers; the service's engine is `auto`, beside the stand-ins.
fn prepare(day: &mut Day) {
    // It would take the configuration up at once, and build its plan unharmed.
    day.does(
        "systemctl stop wordsight && cp /gifts/stand-ins/* /usr/lib/x86_64-linux-gnu/ && ldconfig && \
         mv /etc/modules-load.d/camera.conf /root/ && \
         sed 's/^kind = .*/kind = \"auto\"\\nworkspace_mib = 400/' /gifts/wordsight.toml >/etc/wordsight/wordsight.toml",
    );
    day.does(&format!(
        "mkdir -p /etc/systemd/system/wordsight.service.d && cat >/etc/systemd/system/wordsight.service.d/late.conf \
         <<'END'\n{DEMANDS}END\n"
    ));
    let disk = day.device.take().unwrap().shut_down();
    day.switch_on(disk);
    day.does("! grep -q video4linux /proc/devices && ! grep -q '^videodev ' /proc/modules");
}

/// Two builds are killed, and systemd starts the service again after each; the third process builds none.
fn a_build_that_is_killed_twice_leaves_the_student_to_the_processor(day: &mut Day) {
    let script = "health=$(cat /run/wordsight/health.json) && [[ $health == *'2 builds of a plan of'* ]] && echo \"$health\"";
    let text = day.device().awaits("the third process builds no plan", THREE_STARTS, script);
    let health: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(health["engine"]["name"], "ONNX Runtime on the processor (fp32)", "{health}");
    assert_eq!(day.unit("NRestarts"), "2");
    let built = day.does("grep ^build /var/lib/wordsight/tensorrt.log");
    assert_eq!(built, "build workspace_mib=400\nbuild workspace_mib=256\n");
    let journal = day.does(JOURNAL);
    assert_eq!(journal.matches("code=killed, status=9/KILL").count(), 2, "{journal}");
    assert_eq!(journal.matches("the GPU is waited for").count(), 3, "{journal}");
    assert!(journal.contains("--rebuild --workspace 128`"), "{journal}");
    let status = day.unit("StatusText");
    assert!(status.contains("instead of TensorRT: 2 builds of a plan of"), "{status}");
}

/// The unit names `char-video4linux`, which is nobody when it starts.
fn a_camera_whose_driver_was_not_there_at_the_start_is_found(day: &mut Day) {
    in_one_life(day, |day| {
        let health = day.health_with(r#"[[ $health == *'"state":"lost"'* ]]"#);
        assert!(health["reason"].as_str().unwrap().contains("no such device"), "{health}");
        day.does("modprobe vivid");
        day.detects("red");
    });
}

/// NVIDIA's libraries run it to tell a Jetson's GPU from a card (roboflow/inference#2817).
fn lsmod_lists_the_modules_under_the_units_own_properties(day: &mut Day) {
    day.does(
        "sed -e 's/^Type=.*/Type=oneshot/' -e 's/^Restart=.*/Restart=no/' -e '/^\\(ExecReload\\|WatchdogSec\\)=/d' \
         -e 's/^RuntimeDirectory=.*/RuntimeDirectory=lsmod/' \
         -e \"s/^ExecStart=.*/ExecStart=\\/bin\\/sh -c 'lsmod | grep -w vivid'/\" \
         /usr/lib/systemd/system/wordsight.service >/run/systemd/system/lsmod.service && systemctl daemon-reload && \
         grep -q ^ProtectKernelModules=yes /run/systemd/system/lsmod.service && systemctl start lsmod && \
         journalctl --sync && journalctl --no-pager -q -b -o cat -u lsmod | grep ^vivid",
    );
    day.does("rm /run/systemd/system/lsmod.service && systemctl daemon-reload");
}

/// As the service's own words advise: root builds it, and the service may read it.
fn a_plan_that_is_built_by_hand_with_less_memory_is_what_the_service_runs(day: &mut Day) {
    let before = day.unit("NRestarts");
    day.does(
        "WORDSIGHT_TEST_TENSORRT=killed_above=100 wordsight plan build /etc/wordsight/student.onnx --rebuild \
         --workspace 100 && systemctl restart wordsight",
    );
    let health =
        day.health_with(&format!("[[ $health == *'{TENSORRT}'* && $health == *'\"state\":\"running\"'* ]]"));
    assert_eq!(health["engine"]["instead_of_tensorrt"], Value::Null, "{health}");
    let status = day.unit("StatusText");
    assert!(status.contains(TENSORRT), "{status}");
    assert_eq!(before.parse::<u32>().unwrap(), 2, "it was killed by nothing else");
}

/// What the system says when a program opens a device as the service's user and under the rules of the running service;
/// nothing when it opens.
fn opening(day: &mut Day, device: &str) -> String {
    day.does(&format!(
        "group=/sys/fs/cgroup$(systemctl show wordsight --value --property ControlGroup) && \
         ( echo $BASHPID >$group/cgroup.procs && export LC_ALL=C && \
         exec setpriv --reuid wordsight --regid wordsight --init-groups bash -c ': <>{device}' ) 2>&1 || true"
    ))
}

/// An open that is allowed ends at the driver, which is not there; one that is denied never comes so far.
const ALLOWED: &str = "No such device or address";
const DENIED: &str = "Operation not permitted";

/// By their fixed numbers: no driver of the names in the unit has been there.
fn gpu_nodes_that_appear_after_the_start_are_open_to_the_service(day: &mut Day) {
    in_one_life(day, |day| {
        for (device, number, expected) in [
            ("/dev/nvidia0", "195 0", ALLOWED),
            ("/dev/nvidiactl", "195 255", ALLOWED),
            ("/dev/dri/renderD200", "226 200", ALLOWED),
            // A number for local use, which nobody has.
            ("/dev/nvidia-local", "120 0", DENIED),
        ] {
            day.does(&format!(
                "! grep -qw -e nvidia /proc/devices && mkdir -p /dev/dri && mknod -m 660 {device} c {number} && \
                 chgrp video {device}"
            ));
            let told = opening(day, device);
            assert!(told.trim_end().ends_with(&format!("{device}: {expected}")), "{told}");
            day.does(&format!("rm {device}"));
        }
    });
}

/// With a number that the kernel gives it as it is loaded, as `nvidia-uvm` has one: the rules that systemd made at the
/// start lack it. The driver of media devices, which the unit names too, plays it here.
fn a_gpu_driver_that_is_loaded_late_has_the_service_started_again(day: &mut Day) {
    day.does(
        "systemctl stop wordsight && rmmod vivid && \
         sed -i s/INIT_FAILS=2/INIT_FAILS=1000/ /etc/systemd/system/wordsight.service.d/late.conf && \
         systemctl daemon-reload",
    );
    // Each module that vivid stood on goes when nothing stands on it any more.
    day.does(
        "for round in 1 2 3 4 5 6 7 8; do for module in $(modprobe --show-depends vivid | sed -E 's,.*/([^/]+)[.]ko.*,\\1,'); do \
         rmmod $module 2>/dev/null; done; done; ! grep -w media /proc/devices || { cat /proc/modules; false; }",
    );
    let moment = day.moment();
    day.does("systemctl start --no-block wordsight");
    day.expect_in_journal(&moment, "the GPU is waited for");
    day.does(
        "modprobe mc && mknod -m 660 /dev/nvidia-uvm c $(awk '$2 == \"media\" { print $1 }' /proc/devices) 0 && \
         chgrp video /dev/nvidia-uvm",
    );
    let told = opening(day, "/dev/nvidia-uvm");
    assert!(told.contains(DENIED), "{told}");
    day.expect_in_journal(&moment, "/dev/nvidia-uvm came after the start of the service");
    // The next one waits for the GPU as long as the one before, and ends for no device.
    day.device().awaits(
        "the service is up again",
        THREE_STARTS,
        "[ \"$(systemctl is-active wordsight)\" = active ] && [ \"$(systemctl show wordsight --value -p NRestarts)\" = 1 ]",
    );
    let told = opening(day, "/dev/nvidia-uvm");
    assert!(told.contains(ALLOWED), "{told}");
    let health = day.health_with(r#"[[ $health == *'NVIDIA'*'driver finds no GPU'* ]]"#);
    assert_eq!(health["engine"]["name"], "ONNX Runtime on the processor (fp32)", "{health}");
    day.does("rm /dev/nvidia-uvm && modprobe vivid");
    day.detects("red");
}

fn clean_up(day: &mut Day) {
    day.does(
        "systemctl stop wordsight && cd /gifts/stand-ins && for name in *; do rm /usr/lib/x86_64-linux-gnu/$name; done && \
         rm -r /etc/systemd/system/wordsight.service.d /var/lib/wordsight/plans /var/lib/wordsight/tensorrt.log && \
         mv /root/camera.conf /etc/modules-load.d/ && cp /gifts/wordsight.toml /etc/wordsight/ && ldconfig && \
         systemctl daemon-reload && systemctl start wordsight",
    );
    day.detects("red");
}

pub fn drivers_that_are_late_and_a_gpu_that_is_none(day: &mut Day) {
    if !day.has_stand_ins {
        day.says("SKIPPED: there are no stand-ins for a GPU");
        return;
    }
    prepare(day);
    scenarios!(day:
        a_build_that_is_killed_twice_leaves_the_student_to_the_processor,
        a_camera_whose_driver_was_not_there_at_the_start_is_found,
        lsmod_lists_the_modules_under_the_units_own_properties,
        gpu_nodes_that_appear_after_the_start_are_open_to_the_service,
        a_plan_that_is_built_by_hand_with_less_memory_is_what_the_service_runs,
        a_gpu_driver_that_is_loaded_late_has_the_service_started_again,
    );
    clean_up(day);
}
